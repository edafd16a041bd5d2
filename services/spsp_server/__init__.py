"""spsp-server: where another DFSP's calls arrive."""
