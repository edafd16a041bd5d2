"""central-directory: a reference directory, for networks that have none."""
