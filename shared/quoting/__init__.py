"""The chain of services that reserve, execute and look up quotes."""
