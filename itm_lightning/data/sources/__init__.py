"""Sources: one file a dataset, and beside them what several of them share."""
