"""spsp-server-backend: forwards calls from spsp-server to the payee's dfsp-api."""
