"""spsp-client-proxy: looks up the payee of each call in the central directory."""
