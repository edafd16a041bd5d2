"""dfsp-api: a DFSP's own end of the chain, as payer or as payee."""
