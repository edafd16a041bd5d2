"""Where webhooks may be: what a URL may look like, and which addresses may be connected to.

A URL is looked at when it is given, so that its giver learns what is wrong with it. What counts is the address
at the moment a socket is made for it, after every resolution and for literals alike: aiohttp gives that address
to ``socket_factory``, and connects to it and no other.
"""

import errno
import re
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from ssrfguard import BlockedAddressError, BlockedURLError, Policy

MAX_URL_CHARACTERS: Final = 2_048
NOT_ALLOWED: Final = "the address is not one that webhooks may have"

_CHARACTERS: Final = re.compile(r"[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+\Z")

# what a resolver may take for an address although it is written as none: 127.1, 0x7f000001
_NUMBER: Final = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?\Z", re.IGNORECASE)

Network = IPv4Network | IPv6Network

# Global unicast, and the two forms of IPv4 whose inner address the policy looks at. What lies outside is no place
# of the Internet: translators of a machine's own may make one of it, as of ::ffff:0:127.0.0.1.
_IPV6: Final = tuple(map(IPv6Network, ("2000::/3", "::ffff:0:0/96", "64:ff9b::/96")))


def networks(value: str | tuple[Network, ...]) -> tuple[Network, ...]:
    """Converts networks in CIDR notation, separated by commas."""
    if isinstance(value, tuple):
        return value
    try:
        found = tuple(ip_network(each.strip()) for each in value.split(",") if each.strip())
        Policy(allowed_networks=found)
    except ValueError as error:
        raise ValueError(f"must be networks such as 127.0.0.0/8, separated by commas: {error}") from None
    return found


class SsrfGuard:
    """What may be connected to: public addresses, and those of `allowed`."""

    def __init__(self, allowed: tuple[Network, ...] = (), *, http: bool = False) -> None:
        self._ipv6 = (*_IPV6, *(each for each in allowed if isinstance(each, IPv6Network)))
        self._schemes = frozenset({"https", "http"} if http else {"https"})
        self._policy = Policy(
            allowed_schemes=self._schemes,
            allowed_networks=allowed,
            allowed_ports=frozenset(range(1, 65_536)),
            max_url_length=MAX_URL_CHARACTERS,
        )

    def fault(self, url: str) -> str | None:
        """What is wrong with a webhook's URL, as its giver may be told; None where nothing is."""
        if len(url) > MAX_URL_CHARACTERS:
            return f"must be at most {MAX_URL_CHARACTERS:,} characters"
        if not _CHARACTERS.match(url):
            return "must be a URL as RFC 3986 has it, without a fragment"
        try:
            target = self._policy.check_url(url)
        except BlockedURLError as error:
            return self._why(url, error)
        if target.address is None:
            is_number = _NUMBER.search(target.host) is not None
            return "must have a name or an address, not a number, as its host" if is_number else None
        return None if self._is_allowed(target.address) else NOT_ALLOWED

    def _why(self, url: str, error: BlockedURLError) -> str:
        if isinstance(error.__cause__, BlockedAddressError):
            return NOT_ALLOWED
        scheme, colon, _ = url.partition("://")
        if not colon or scheme.lower() not in self._schemes:
            return f"must be an absolute {' or '.join(sorted(self._schemes))} URL"
        return "must be a URL with a plain host and port, and without a user"

    def socket(self, info: Any) -> socket.socket:  # noqa: ANN401 - what getaddrinfo gives
        """A socket for this address. Raises PermissionError where it may not be connected to."""
        family, kind, protocol, _, address = info
        if not self._is_allowed(ip_address(address[0])):
            raise PermissionError(errno.EPERM, NOT_ALLOWED)
        return socket.socket(family, kind, protocol)

    def _is_allowed(self, address: IPv4Address | IPv6Address) -> bool:
        try:
            self._policy.check_address(address)
        except BlockedAddressError:
            return False
        return isinstance(address, IPv4Address) or any(address in each for each in self._ipv6)
