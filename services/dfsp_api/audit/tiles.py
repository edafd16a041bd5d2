"""The nodes of the tree as they are stored: in tiles of 256 hashes. Pure: no I/O.

The tile with level L and number N has the hashes of up to 256 nodes of level 8·L, from number 256·N on, one after
the other. All other nodes are computed from them. So a proof reads a few tiles, however large the tree is, and a leaf
costs 32 bytes. (C2SP's tlog-tiles cuts a tree in the same way.)
"""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from dfsp_api.audit.merkle import HASH_BYTES, Node, Range, complete_root, nodes_of, range_hash

TileId: TypeAlias = tuple[int, int]
Tiles: TypeAlias = Mapping[TileId, bytes]

LEVELS: Final = 8
WIDTH: Final = 1 << LEVELS
_TILE_BYTES: Final = WIDTH * HASH_BYTES


def last_tiles(size: int) -> list[TileId]:
    """Return the tiles of a tree that are not full. A larger tree and its root are made from them."""
    found, level = [], 0
    while size:
        if size % WIDTH:
            found.append((level, size // WIDTH))
        size //= WIDTH
        level += 1
    return found


def tiles_of(ranges: Iterable[Range]) -> set[TileId]:
    """Return the tiles from which the hashes of these ranges are computed."""
    return {_place(node)[0] for each in ranges for node in nodes_of(each)}


def hash_of_range(tiles: Tiles, whole: Range) -> bytes:
    """Return the hash of a range from its tiles. Raises KeyError if one of them is missing."""
    return range_hash(whole, lambda node: _node(tiles, node))


def add_leaves(tiles: Tiles, size: int, leaves: bytes) -> dict[TileId, bytes]:
    """Return the tiles that change when leaves are added to a tree of this size.

    ``tiles`` has at least the last ones of the tree; ``leaves`` are hashes, one after the other.
    """
    changed: dict[TileId, bytes] = {}
    level, added = 0, leaves
    while added:
        first, taken = divmod(size >> LEVELS * level, WIDTH)
        row = (tiles[level, first][: taken * HASH_BYTES] if taken else b"") + added
        new = [row[begin : begin + _TILE_BYTES] for begin in range(0, len(row), _TILE_BYTES)]
        changed.update({(level, number): tile for number, tile in enumerate(new, first)})
        level, added = level + 1, b"".join([complete_root(each) for each in new if len(each) == _TILE_BYTES])
    return changed


def _place(node: Node) -> tuple[TileId, int, int]:
    """Return the tile of a node, the place of the node's first hash in it, and the number of its hashes."""
    level, index = node
    height = level % LEVELS
    first = index << height
    return (level // LEVELS, first // WIDTH), first % WIDTH, 1 << height


def _node(tiles: Tiles, node: Node) -> bytes:
    tile, first, count = _place(node)
    hashes = tiles[tile][first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(hashes) != count * HASH_BYTES:
        raise KeyError(tile)
    return complete_root(hashes)
