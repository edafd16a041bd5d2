"""dfsp-api: the first service of the chain at the payer's DFSP, or the last one at the payee's DFSP."""
