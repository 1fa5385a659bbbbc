"""One file a dataset, and what several of them share."""
