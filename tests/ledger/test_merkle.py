"""The tree against the Certificate Transparency project's vectors, and proofs against mutation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
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
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (index, size): audit path
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}
# (old, new): proof
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 7): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def raw(hashes):
    return [bytes.fromhex(text) for text in hashes]


def grow(leaves):
    """Roots by size, and a reader of the stored nodes."""
    frontier, nodes = Frontier(), {}
    roots = [frontier.root()]
    for leaf in leaves:
        frontier, new = frontier.append(leaf_hash(leaf))
        nodes |= {(level, index): hashed for level, index, hashed in new}
        roots.append(frontier.root())
    return roots, lambda level, index: nodes[level, index]


def tree_hash(leaves):
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = max(1 << i for i in range(len(leaves).bit_length()) if 1 << i < len(leaves))
    return node_hash(tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def audit_path(index, leaves):
    """RFC 6962 section 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = max(1 << i for i in range(len(leaves).bit_length()) if 1 << i < len(leaves))
    if index < split:
        return [*audit_path(index, leaves[:split]), tree_hash(leaves[split:])]
    return [*audit_path(index - split, leaves[split:]), tree_hash(leaves[:split])]


def sub_proof(old, leaves, whole):
    """RFC 6962 section 2.1.2, word for word."""
    if old == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    split = max(1 << i for i in range(len(leaves).bit_length()) if 1 << i < len(leaves))
    if old <= split:
        return [*sub_proof(old, leaves[:split], whole), tree_hash(leaves[split:])]
    return [*sub_proof(old - split, leaves[split:], False), tree_hash(leaves[:split])]


SOME = [bytes([number]) for number in range(40)]
SOME_ROOTS, SOME_NODES = grow(SOME)


def test_roots_of_the_public_tree():
    assert grow(LEAVES)[0] == raw(ROOTS)


@pytest.mark.parametrize(("place", "path"), INCLUSION.items())
def test_inclusion_proofs_of_the_public_tree(place, path):
    index, size = place
    roots, node = grow(LEAVES)

    assert inclusion_proof(index, size, node) == raw(path)
    verify_inclusion(leaf_hash(LEAVES[index]), index, size, raw(path), roots[size])


@pytest.mark.parametrize(("sizes", "path"), CONSISTENCY.items())
def test_consistency_proofs_of_the_public_tree(sizes, path):
    old, new = sizes
    roots, node = grow(LEAVES)

    assert consistency_proof(old, new, node) == raw(path)
    verify_consistency(old, new, raw(path), roots[old], roots[new])


def test_roots_and_proofs_are_those_of_the_rfc_at_every_size():
    for size in range(len(SOME) + 1):
        assert SOME_ROOTS[size] == tree_hash(SOME[:size])
        for index in range(size):
            proof = inclusion_proof(index, size, SOME_NODES)
            assert proof == audit_path(index, SOME[:size])
            verify_inclusion(leaf_hash(SOME[index]), index, size, proof, SOME_ROOTS[size])
        for old in range(size + 1):
            proof = consistency_proof(old, size, SOME_NODES)
            assert proof == (sub_proof(old, SOME[:size], True) if old else [])
            verify_consistency(old, size, proof, SOME_ROOTS[old], SOME_ROOTS[size])


def test_a_frontier_read_from_storage_goes_on_as_the_one_that_was_grown():
    for size in range(len(SOME) + 1):
        assert Frontier.read(size, SOME_NODES).root() == SOME_ROOTS[size]


def test_appending_leaves_the_frontier_as_it_was():
    before = Frontier.read(5, SOME_NODES)
    before.append(leaf_hash(b"other"))

    assert before.root() == SOME_ROOTS[5]


def test_a_list_of_hashes_has_the_root_of_the_tree():
    assert root_of([leaf_hash(leaf) for leaf in SOME]) == SOME_ROOTS[-1]


@given(st.data())
def test_a_changed_inclusion_proof_is_refused(data):
    size = data.draw(st.integers(1, len(SOME)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(index, size, SOME_NODES)
    wrong_index, wrong_proof, wrong_leaf = index, list(proof), SOME[index]
    what = data.draw(st.sampled_from(["index", "leaf", "longer", "shorter", "step"]))
    if what == "index":
        wrong_index = data.draw(st.integers(-1, size + 1).filter(lambda i: i != index))
    elif what == "longer":
        wrong_proof.insert(data.draw(st.integers(0, len(proof))), bytes(32))
    elif what in ("shorter", "step") and proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        if what == "shorter":
            del wrong_proof[at]
        else:
            wrong_proof[at] = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    else:
        wrong_leaf = b"another leaf"

    with pytest.raises(InvalidInput):
        verify_inclusion(leaf_hash(wrong_leaf), wrong_index, size, wrong_proof, SOME_ROOTS[size])


@given(st.integers(1, len(SOME) - 1), st.data())
def test_a_changed_consistency_proof_is_refused(old, data):
    new = data.draw(st.integers(old + 1, len(SOME)))
    proof = consistency_proof(old, new, SOME_NODES)
    at = data.draw(st.integers(0, len(proof) - 1))
    changed = bytes([proof[at][0] ^ 1]) + proof[at][1:]

    for wrong in (
        [*proof[:at], changed, *proof[at + 1 :]],
        [*proof[:at], *proof[at + 1 :]],
        [*proof, bytes(32)],
    ):
        with pytest.raises(InvalidInput):
            verify_consistency(old, new, wrong, SOME_ROOTS[old], SOME_ROOTS[new])
    with pytest.raises(InvalidInput):
        verify_consistency(old, new, proof, EMPTY_ROOT, SOME_ROOTS[new])
    with pytest.raises(InvalidInput):
        verify_consistency(old, new, proof, SOME_ROOTS[old], EMPTY_ROOT)


def test_a_tree_never_shrinks_and_equal_sizes_have_equal_roots():
    with pytest.raises(InvalidInput):
        verify_consistency(5, 4, [], SOME_ROOTS[5], SOME_ROOTS[4])
    with pytest.raises(InvalidInput):
        verify_consistency(5, 5, [], SOME_ROOTS[5], SOME_ROOTS[4])
    with pytest.raises(InvalidInput):
        verify_consistency(0, 5, [], SOME_ROOTS[1], SOME_ROOTS[5])
    with pytest.raises(InvalidInput):
        verify_consistency(0, 0, [], EMPTY_ROOT, SOME_ROOTS[1])


def test_a_frontier_must_fit_its_size():
    with pytest.raises(InvalidInput):
        Frontier(3, (bytes(32),))
