"""Digests of account tokens and header values: the database stores no secret of the accounts file in clear."""

from hashlib import sha256


def digest(secret: str) -> bytes:
    return sha256(secret.encode("utf-8", "surrogateescape")).digest()
