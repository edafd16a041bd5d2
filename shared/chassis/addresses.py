"""IP addresses of callers and listeners."""

from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

IPV6_PREFIX_BITS: Final = 64
"""Number of bits that an internet provider sets in a customer's IPv6 addresses. The customer sets the others."""


def is_loopback(host: str) -> bool:
    """Whether a server that listens on this host can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def network_of(address: str) -> str:
    """Return the key under which limits count a caller: the /64 network of an IPv6 address, or the IPv4 address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(IPv6Network((found, IPV6_PREFIX_BITS), strict=False))
