"""Check the headers that a partner has chosen for the requests to its webhook."""

import re
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}\Z")
VALUE: Final = re.compile(r"([\x21-\x7e]([\x20-\x7e\t]{0,4094}[\x21-\x7e])?)?\Z")

# a partner must not choose headers that decide how the request is framed, routed or verified
RESERVED: Final = frozenset(
    {
        "host",
        "expect",
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
RESERVED_PREFIXES: Final = ("content-", "webhook-")


def header_fault(name: str, value: object) -> str | None:
    """Return what is wrong with a partner's header, or None."""
    if not NAME.match(name):
        return "is not a valid header name"
    if name.lower() in RESERVED or name.lower().startswith(RESERVED_PREFIXES):
        return "is a reserved header and cannot be set"
    if not isinstance(value, str) or not VALUE.match(value):
        return "must be at most 4,096 printable ASCII characters, without white space at either end"
    return None
