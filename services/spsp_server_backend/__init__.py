"""spsp-server-backend: between the scheme and the payee's own systems."""
