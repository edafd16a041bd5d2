"""spsp-server-backend: passes calls from the scheme's spsp-server to the payee's dfsp-api."""
