"""Digests of account tokens and header values.

The database stores digests, so it has no secret of the accounts file.
"""

from hashlib import sha256


def digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
