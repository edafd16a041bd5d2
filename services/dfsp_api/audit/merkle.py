"""The Merkle tree of RFC 6962 §2.1 and RFC 9162 §2.1: hashes, proofs and their verification. Pure: no I/O.

A *range* is a pair ``(begin, end)`` of leaf positions, without ``end``. A *node* is a pair ``(level, index)``: the root
of the complete subtree over the leaves from ``index * 2**level`` on.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

Range: TypeAlias = tuple[int, int]
Node: TypeAlias = tuple[int, int]

EMPTY_ROOT: Final = hashlib.sha256().digest()
HASH_BYTES: Final = 32
_sha256: Final = hashlib.sha256


def leaf_hash(content: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def split(size: int) -> int:
    """Return the largest power of two that is smaller than ``size``, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def nodes_of(whole: Range) -> Iterator[Node]:
    """Yield the complete subtrees of a range, from left to right. The range is the tree or a range of a proof."""
    begin, end = whole
    while begin < end:
        level = (end - begin).bit_length() - 1
        if begin:
            level = min(level, (begin & -begin).bit_length() - 1)
        yield level, begin >> level
        begin += 1 << level


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of a range from the hashes of its complete subtrees."""
    if not hashes:
        return EMPTY_ROOT
    *others, result = hashes
    for each in reversed(others):
        result = node_hash(each, result)
    return result


def range_hash(whole: Range, hash_of: Callable[[Node], bytes]) -> bytes:
    """Return the hash of a range. ``hash_of`` returns the hash of a node."""
    return fold([hash_of(node) for node in nodes_of(whole)])


def inclusion_ranges(position: int, size: int) -> list[Range]:
    """Return the ranges whose hashes prove that a leaf is in the tree of this size (RFC 9162 §2.1.3.1).

    ``position`` is less than ``size``.
    """
    ranges, (begin, end) = [], (0, size)
    while end - begin > 1:
        middle = begin + split(end - begin)
        if position < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    return ranges[::-1]


def consistency_ranges(first: int, second: int) -> list[Range]:
    """Return the ranges whose hashes prove that one tree begins with another one (RFC 9162 §2.1.4.1).

    The sizes are 0 < ``first`` <= ``second``.
    """
    ranges, (begin, end) = [], (0, second)
    while first != end:
        middle = begin + split(end - begin)
        if first <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((begin, middle))
            begin = middle
    if begin:
        ranges.append((begin, end))
    return ranges[::-1]


def root_of_inclusion(leaf: bytes, position: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that the proof leads to; None if no proof for this position can have this form.

    ``leaf`` is the hash of the leaf. The leaf is in the tree if the result equals the root (RFC 9162 §2.1.3.2).
    """
    if not 0 <= position < size:
        return None
    ranges = inclusion_ranges(position, size)
    if len(ranges) != len(proof):
        return None
    result = leaf
    for (begin, _), each in zip(ranges, proof, strict=True):
        result = node_hash(result, each) if begin > position else node_hash(each, result)
    return result


def is_consistent(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the tree of size ``second`` begins with the tree of size ``first`` (RFC 9162 §2.1.4.2)."""
    if not 0 <= first <= second:
        return False
    if first in {0, second}:
        return not proof and first_root == (EMPTY_ROOT if first == 0 else second_root)
    ranges = consistency_ranges(first, second)
    is_subtree = first & (first - 1) == 0
    hashes = [first_root, *proof] if is_subtree else list(proof)
    if is_subtree:
        ranges = [(0, first), *ranges]
    if len(ranges) != len(hashes):
        return False
    old = new = hashes[0]
    for (begin, _), each in zip(ranges[1:], hashes[1:], strict=True):
        if begin >= first:
            new = node_hash(new, each)
        else:
            old, new = node_hash(each, old), node_hash(each, new)
    return (old, new) == (first_root, second_root)


class CompactTree:
    """Computes the root of a tree while leaves are added one by one. Keeps at most one hash for each level."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        """Add the hash of the next leaf."""
        self.size += 1
        rest = self.size
        while rest % 2 == 0:
            leaf = node_hash(self._subtrees.pop(), leaf)
            rest //= 2
        self._subtrees.append(leaf)

    @property
    def root(self) -> bytes:
        return fold(self._subtrees)


def complete_root(hashes: bytes) -> bytes:
    """Return the root over hashes of one level, one after the other. Their number is a power of two."""
    row, pair = hashes, 2 * HASH_BYTES
    while len(row) > HASH_BYTES:
        row = b"".join(
            [_sha256(b"\x01" + row[each : each + pair]).digest() for each in range(0, len(row), pair)]
        )
    return row
