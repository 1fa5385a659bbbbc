"""What a Matcher needs to train, a part a file."""
