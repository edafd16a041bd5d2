"""spsp-client-proxy: finds the payee of each call in the central directory."""
