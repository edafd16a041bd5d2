"""spsp-client: takes calls to other DFSPs."""
