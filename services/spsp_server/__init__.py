"""spsp-server: receives the calls that other DFSPs send to this one."""
