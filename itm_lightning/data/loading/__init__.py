"""From records to batches: decoding, sampling, streams, loaders."""
