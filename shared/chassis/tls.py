"""TLS between hops: contexts to serve with and to call with, made anew when their files change.

With a client CA only those are let in who show a certificate of that CA; a service shows its own certificate
to the services it calls.
"""

import ssl
from collections.abc import Callable, Iterable
from pathlib import Path

from chassis.settings import Listening

State = tuple[tuple[int, int, int] | None, ...]


class TlsError(Exception):
    """The TLS files cannot be used; the message says which and why."""


class Tls:
    """The contexts in force."""

    def __init__(self, settings: Listening, on_fault: Callable[[str], object] = print) -> None:
        """Raises TlsError."""
        self._settings = settings
        self._on_fault = on_fault
        self._seen = self._state()
        self.server, self.client = self._contexts()

    @property
    def is_used(self) -> bool:
        return bool(self._files())

    def changed(self) -> bool:
        """Whether new files have come into force; broken ones leave the old ones in force."""
        state = self._state()
        if state == self._seen:
            return False
        try:
            contexts = self._contexts()
        except TlsError as error:
            self._seen = state  # said once; looked at again when they change again
            self._on_fault(f"the TLS files are not taken over: {error}")
            return False
        self._seen = state
        self.server, self.client = contexts
        return True

    def _files(self) -> list[Path]:
        wanted = (
            self._settings.tls_certificate,
            self._settings.tls_key,
            self._settings.tls_client_ca,
            self._settings.tls_ca,
        )
        return [path for path in wanted if path is not None]

    def _state(self) -> State:
        return tuple(_state(self._files()))

    def _contexts(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | bool]:
        """To serve with, if at all, and to call with: True is aiohttp's own, with the system's CAs."""
        settings = self._settings
        if not self._files():
            return None, True
        if (settings.tls_certificate is None) != (settings.tls_key is None):
            raise TlsError("QUOTES_TLS_CERTIFICATE and QUOTES_TLS_KEY go together")
        if settings.tls_client_ca is not None and settings.tls_certificate is None:
            raise TlsError("QUOTES_TLS_CLIENT_CA needs QUOTES_TLS_CERTIFICATE")
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


def _state(paths: Iterable[Path]) -> Iterable[tuple[int, int, int] | None]:
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            yield None
        else:
            yield stat.st_mtime_ns, stat.st_size, stat.st_ino
