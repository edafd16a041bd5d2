"""TLS between services: SSL contexts for the server side and the client side.

If a client CA is configured, the server accepts only callers whose certificate this CA has signed. As a client, a
service uses the same certificate that it uses as a server.
"""

import ssl
from collections.abc import Mapping

from chassis.settings import Listening
from chassis.watched_files import WatchedFile


class TlsError(Exception):
    """The TLS files cannot be used. The message names the files and the reason."""


class Tls:
    """The present TLS contexts."""

    def __init__(self, settings: Listening) -> None:
        """Load the files. Raises TlsError."""
        self._settings = settings
        self.files = WatchedFile(
            "the TLS configuration",
            settings.tls_certificate,
            settings.tls_key,
            settings.tls_client_ca,
            settings.tls_ca,
        )
        self.server, self.client = self._contexts()

    @property
    def is_used(self) -> bool:
        return bool(self.files.paths)

    async def reload(self) -> Mapping[str, object]:
        """Load the files again (`chassis.watched_files.Reload`). Raises TlsError, and then the contexts stay the same.

        New connections use the new contexts.
        """
        self.server, self.client = self._contexts()
        return {}

    def _contexts(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | bool]:
        """Return the contexts for server and client. Raises TlsError.

        Without TLS, the server's context is None. If no file is configured, the client's context is True, which means
        the system's CAs.
        """
        settings = self._settings
        if not self.is_used:
            return None, True
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise TlsError("set both QUOTES_TLS_CERTIFICATE and QUOTES_TLS_KEY, or neither")
        if settings.tls_client_ca is not None and settings.tls_certificate is None:
            raise TlsError("QUOTES_TLS_CLIENT_CA also needs QUOTES_TLS_CERTIFICATE and QUOTES_TLS_KEY")
        try:
            client = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.tls_ca)
            if settings.tls_certificate is None or settings.tls_key is None:
                return None, client
            client.load_cert_chain(settings.tls_certificate, settings.tls_key)
            server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            server.minimum_version = ssl.TLSVersion.TLSv1_2
            server.load_cert_chain(settings.tls_certificate, settings.tls_key)
            if settings.tls_client_ca is not None:
                server.load_verify_locations(settings.tls_client_ca)
                server.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            raise TlsError(f"{self.files.shown_paths}: {error}") from error
        return server, client
