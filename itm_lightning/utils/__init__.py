"""What has nothing to do with images or texts: atomic files, checkpointing, seeds."""
