"""Protection against server-side request forgery: rejects URLs and addresses that a webhook may not have.

The URL is checked when a partner sends it, so that the partner gets an error message. A second check protects this
service: aiohttp passes each resolved address to ``socket_factory`` and connects only to this address. So it does not
help an attacker if a host name resolves to another address later.
"""

import errno
import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from ssrfguard import BlockedAddressError, BlockedURLError, Policy

MAX_URL_CHARACTERS: Final = 2_048
ADDRESS_NOT_ALLOWED: Final = "the address is not a public one, and webhooks may only have public addresses"

_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+\Z")

# some resolvers read these hosts as IPv4 addresses: 127.1, 0x7f000001
_NUMERIC_HOST: Final = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?\Z", re.IGNORECASE)

_ALL_PORTS: Final = frozenset(range(1, 65_536))

Network = IPv4Network | IPv6Network

# Global unicast, and the two IPv6 forms of an IPv4 address that the policy unwraps. All others are
# rejected, because this machine may translate them to IPv4 addresses, for example ::ffff:0:127.0.0.1.
_IPV6: Final = tuple(map(IPv6Network, ("2000::/3", "::ffff:0:0/96", "64:ff9b::/96")))


def networks(value: str | tuple[Network, ...]) -> tuple[Network, ...]:
    """Return the networks in a text such as "10.0.0.0/8,fd00::/8". Raises ValueError."""
    if isinstance(value, tuple):
        return value
    try:
        found = tuple(ip_network(each.strip()) for each in value.split(",") if each.strip())
        Policy(allowed_networks=found)
    except ValueError as error:
        raise ValueError(f"must be networks such as 127.0.0.0/8, separated by commas: {error}") from None
    return found


class SsrfGuard:
    """Allows connections to public addresses, and to addresses in the networks `allowed`."""

    def __init__(self, allowed: tuple[Network, ...] = (), *, http: bool = False) -> None:
        self._ipv6 = (*_IPV6, *(each for each in allowed if isinstance(each, IPv6Network)))
        self._schemes = frozenset({"https", "http"} if http else {"https"})
        self._policy = Policy(
            allowed_schemes=self._schemes,
            allowed_networks=allowed,
            allowed_ports=_ALL_PORTS,
            max_url_length=MAX_URL_CHARACTERS,
        )

    def url_fault(self, url: str) -> str | None:
        """Return the fault of a webhook's URL as text for the partner; None if the URL is allowed."""
        if len(url) > MAX_URL_CHARACTERS:
            return f"must be at most {MAX_URL_CHARACTERS:,} characters"
        if not _CHARACTERS.match(url):
            return "must be a URL as in RFC 3986, without a fragment"
        try:
            target = self._policy.check_url(url)
        except BlockedURLError as error:
            return self._fault_of(url, error)
        if target.address is None:
            is_number = _NUMERIC_HOST.search(target.host) is not None
            return "must have a host name or an IP address, not a number, as its host" if is_number else None
        return None if self._is_allowed(target.address) else ADDRESS_NOT_ALLOWED

    def _fault_of(self, url: str, error: BlockedURLError) -> str:
        if isinstance(error.__cause__, BlockedAddressError):
            return ADDRESS_NOT_ALLOWED
        scheme, colon, _ = url.partition("://")
        if not colon or scheme.lower() not in self._schemes:
            return f"must be an absolute {' or '.join(sorted(self._schemes))} URL"
        return "must be a URL with a plain host and port, and without a user name"

    def socket(self, info: Any) -> socket.socket:  # noqa: ANN401 - a tuple from getaddrinfo
        """Return a new socket for the address in `info`. Raises PermissionError if the address is not allowed."""
        family, kind, protocol, _, address = info
        if not self._is_allowed(ip_address(address[0])):
            raise PermissionError(errno.EPERM, ADDRESS_NOT_ALLOWED)
        return socket.socket(family, kind, protocol)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        try:
            self._policy.check_address(address)
        except BlockedAddressError:
            return False
        return isinstance(address, IPv4Address) or any(address in each for each in self._ipv6)
