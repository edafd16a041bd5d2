"""The Merkle tree against published vectors and against a naive implementation of the RFC's definitions."""

import hashlib
import random

import pytest

from dfsp_api.audit.merkle import (
    EMPTY_ROOT,
    CompactTree,
    consistency_ranges,
    inclusion_ranges,
    is_consistent,
    leaf_hash,
    node_hash,
    root_of_inclusion,
)
from dfsp_api.audit.tiles import WIDTH, add_leaves, hash_of_range, last_tiles, tiles_of

# the leaves of Certificate Transparency's reference tests, and the roots of the first one, two, … of them
LEAVES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(leaves):
    """MTH of RFC 6962 §2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m, leaves):
    """PATH of RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = largest_power_below(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m, leaves, *, is_whole=True):
    """SUBPROOF of RFC 6962 §2.1.2."""
    if m == len(leaves):
        return [] if is_whole else [naive_root(leaves)]
    k = largest_power_below(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], is_whole=is_whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], is_whole=False), naive_root(leaves[:k])]


def largest_power_below(size):
    k = 1
    while k * 2 < size:
        k *= 2
    return k


class StoredTree:
    """The tree in tiles, as the database has it."""

    def __init__(self):
        self.size = 0
        self.tiles = {}

    def add(self, leaves):
        known = {each: self.tiles[each] for each in last_tiles(self.size)}
        self.tiles.update(add_leaves(known, self.size, b"".join(map(leaf_hash, leaves))))
        self.size += len(leaves)

    def hash_of(self, whole):
        return hash_of_range({each: self.tiles[each] for each in tiles_of([whole])}, whole)


@pytest.mark.parametrize("size", range(1, 9))
def test_the_roots_of_the_reference_tree_are_the_published_ones(size):
    tree, stored = CompactTree(), StoredTree()
    for leaf in LEAVES[:size]:
        tree.add(leaf_hash(leaf))
        stored.add([leaf])

    assert (
        ROOTS[size - 1]
        == tree.root.hex()
        == stored.hash_of((0, size)).hex()
        == naive_root(LEAVES[:size]).hex()
    )


def test_the_root_of_no_leaves_is_the_hash_of_nothing():
    assert EMPTY_ROOT == CompactTree().root == StoredTree().hash_of((0, 0)) == naive_root([])


def test_every_proof_of_small_trees_is_the_one_of_the_definition_and_verifies():
    leaves = [str(each).encode() for each in range(40)]
    stored = StoredTree()
    stored.add(leaves)
    roots = [naive_root(leaves[:size]) for size in range(len(leaves) + 1)]
    for size in range(1, len(leaves) + 1):
        for position in range(size):
            proof = [stored.hash_of(each) for each in inclusion_ranges(position, size)]
            assert naive_path(position, leaves[:size]) == proof
            assert roots[size] == root_of_inclusion(leaf_hash(leaves[position]), position, size, proof)
        for first in range(1, size + 1):
            proof = [stored.hash_of(each) for each in consistency_ranges(first, size)]
            assert naive_subproof(first, leaves[:size]) == proof
            assert is_consistent(first, size, roots[first], roots[size], proof)


def test_random_appends_to_a_large_tree_give_the_roots_and_proofs_of_the_definition():
    chance = random.Random(6962)
    leaves, stored, compact, sizes = [], StoredTree(), CompactTree(), [1]
    while len(leaves) < 2 * WIDTH * 5:
        added = [chance.randbytes(8) for _ in range(chance.choice([0, 1, 2, 3, 255, 256, 257, 700]))]
        leaves += added
        stored.add(added)
        for each in added:
            compact.add(leaf_hash(each))
        sizes.append(len(leaves))
        assert compact.root == stored.hash_of((0, len(leaves)))
    size = len(leaves)

    assert naive_root(leaves) == compact.root
    for position in chance.sample(range(size), 20):
        proof = [stored.hash_of(each) for each in inclusion_ranges(position, size)]
        assert naive_path(position, leaves) == proof
    for first in filter(None, sizes):
        proof = [stored.hash_of(each) for each in consistency_ranges(first, size)]
        assert naive_subproof(first, leaves) == proof
        assert is_consistent(first, size, naive_root(leaves[:first]), compact.root, proof)


def test_a_proof_reads_few_tiles_however_large_the_tree_is():
    size = 10_000_000_019

    assert all(
        len(tiles_of(inclusion_ranges(position, size))) <= 10 for position in (0, 1, size // 3, size - 1)
    )
    assert len(tiles_of(consistency_ranges(size // 3, size))) <= 20
    assert len(last_tiles(size)) <= 5


def test_a_proof_of_something_else_does_not_verify():
    leaves = [str(each).encode() for each in range(13)]
    root, chance = naive_root(leaves), random.Random(9162)
    for position in range(13):
        proof = naive_path(position, leaves)
        leaf = leaf_hash(leaves[position])
        assert root == root_of_inclusion(leaf, position, 13, proof)
        for other in {*range(13)} - {position}:
            assert root != root_of_inclusion(leaf, other, 13, proof)
        assert root != root_of_inclusion(leaf_hash(b"another"), position, 13, proof)
        assert root != root_of_inclusion(leaf, position, 13, proof[:-1])
        assert root != root_of_inclusion(leaf, position, 13, [*proof, root])
    for first in range(1, 13):
        proof, old = naive_subproof(first, leaves), naive_root(leaves[:first])
        assert is_consistent(first, 13, old, root, proof)
        assert not is_consistent(first, 13, node_hash(old, old), root, proof)
        assert not is_consistent(first, 13, old, node_hash(old, root), proof)
        assert not is_consistent(first, 13, old, root, proof[1:])
        changed = [bytearray(each) for each in proof]
        chance.choice(changed)[chance.randrange(32)] ^= 1 << chance.randrange(8)
        assert not is_consistent(first, 13, old, root, [bytes(each) for each in changed])
