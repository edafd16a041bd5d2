"""TLS between services: SSL contexts for the server side and the client side, loaded again when their files change.

If a client CA is configured, the server accepts only callers whose certificate this CA has signed. As a client, a
service uses the same certificate that it uses as a server.
"""

import ssl
from collections.abc import Callable
from pathlib import Path

from chassis.settings import Listening
from chassis.text_file import FileState, state_of


class TlsError(Exception):
    """The TLS files cannot be used. The message names the files and the reason."""


class Tls:
    """The present TLS contexts."""

    def __init__(self, settings: Listening, on_fault: Callable[[str], object] = print) -> None:
        """Load the files. Raises TlsError."""
        self._settings = settings
        self._on_fault = on_fault
        self._seen = self._state()
        self.server, self.client = self._contexts()

    @property
    def is_used(self) -> bool:
        return bool(self._files())

    def reload_if_changed(self) -> bool:
        """Load the files again if they have changed. Returns True if new files are in use now.

        Invalid files are logged and ignored.
        """
        state = self._state()
        if state == self._seen:
            return False
        try:
            contexts = self._contexts()
        except TlsError as error:
            self._seen = state  # logged once
            self._on_fault(
                f"the TLS files have changed but cannot be used; the old ones stay in force: {error}"
            )
            return False
        self._seen = state
        self.server, self.client = contexts
        return True

    def _files(self) -> list[Path]:
        configured = (
            self._settings.tls_certificate,
            self._settings.tls_key,
            self._settings.tls_client_ca,
            self._settings.tls_ca,
        )
        return [path for path in configured if path is not None]

    def _state(self) -> list[FileState]:
        return [state_of(path) for path in self._files()]

    def _contexts(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | bool]:
        """Return the contexts for server and client. Raises TlsError.

        Without TLS, the server's context is None. If no file is configured, the client's context is True, which means
        the system's CAs.
        """
        settings = self._settings
        if not self._files():
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
            files = ", ".join(str(path) for path in self._files())
            raise TlsError(f"{files}: {error}") from error
        return server, client
