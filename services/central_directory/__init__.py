"""central-directory: a directory service for networks that have no directory of their own."""
