"""``lightning explain``: which regions and words a score comes from."""
