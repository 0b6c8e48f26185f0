"""A bundle holds what was asked for and all that it leans on, against one final header."""

import base64
import json
import zlib

import pytest

from tilth_ledger import bundle, canonical, merkle
from tilth_ledger.blocks import FINALIZE, NOTARIZE, Certificate, Header, Justification
from tilth_ledger.errors import InvalidInput
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf, write_entry
from tilth_ledger.rows import MemoryRows


class Tree:
    """Leaves of a consortium, and the header of a block that holds them."""

    def __init__(self, consortium):
        self.consortium = consortium
        self.leaves, self.nodes, self.rows = [], {}, MemoryRows()
        self.frontier = merkle.Frontier()

    def append(self, leaf):
        self.leaves.append(leaf.encode())
        self.frontier, new = self.frontier.append(merkle.leaf_hash(self.leaves[-1]))
        self.nodes |= {(level, index): hashed for level, index, hashed in new}
        return len(self.leaves) - 1

    def entry(self, key):
        nonce = f"{len(self.leaves):032x}"
        net = self.consortium.genesis.net
        return self.append(write_entry(net, "org-1", key, nonce, [{"op": "x.y"}]))

    def result(self, **entries):
        payload = {"predicate": {"entries": entries}}
        return self.append(Leaf(CERTIFIED_RESULT, canonical.dumps(payload)))

    def header(self):
        return Header(
            net=self.consortium.genesis.net_bytes,
            epoch=0,
            view=2,
            height=2,
            parent=b"p" * 32,
            parent_view=1,
            skips=Justification(None).skips_digest,
            leaf_count=0,
            size=self.frontier.size,
            root=self.frontier.root(),
            state=b"s" * 32,
            time_ms=1,
            proposer=0,
        )

    def bundle(self, *wanted, kind=FINALIZE, header=None):
        header = header or self.header()
        certificate = self.consortium.certificate(kind, header.view, header.hash)
        return self.make(wanted, header, certificate)

    def make(self, wanted, header, certificate):
        return bundle.make(
            self.consortium.genesis,
            bundle.Proven(header.size, None, bundle.Finality(header, certificate)),
            wanted,
            self.leaves.__getitem__,
            lambda level, index: self.nodes[level, index],
            self.rows,
        )


def indexes(data):
    return [item["index"] for item in json.loads(data)["leaves"]]


@pytest.fixture
def tree(consortium):
    """Two entries of genesis' keys, one of a key that entry 0 introduced."""
    tree = Tree(consortium)
    admin, person = consortium.keys[0]["admin"], consortium.keys[0]["admin"].derive("person")
    tree.entry(admin)
    tree.entry(admin)
    tree.entry(person)
    tree.rows.apply(
        {
            f"identity/{person.key_id}": b'{"index":0}',
            f"identity/{admin.key_id}": b'{"organization":"org-1"}',
        }
    )
    return tree


def test_every_leaf_is_proven_against_the_header(tree):
    data = json.loads(tree.bundle(1, 2))
    header = Header.decode(bytes.fromhex(data["header"]))
    Certificate.decode(bytes.fromhex(data["certificate"])).verify(tree.consortium.epoch)

    assert data["genesis"] == tree.consortium.genesis.net
    content = zlib.decompress(base64.b64decode(data["content"]))
    assert content == b"".join(tree.leaves[item["index"]] for item in data["leaves"])
    for item in data["leaves"]:
        leaf, content = content[: item["length"]], content[item["length"] :]
        path = [base64.b64decode(data["hashes"][place]) for place in item["path"]]
        assert leaf == tree.leaves[item["index"]]
        merkle.verify_inclusion(
            merkle.leaf_hash(leaf), item["index"], header.size, path, header.root
        )


def test_an_author_of_genesis_needs_no_other_leaf(tree):
    assert indexes(tree.bundle(1)) == [1]


def test_the_entry_that_made_an_author_known_comes_with_it(tree):
    assert indexes(tree.bundle(2)) == [0, 2]


def test_a_certified_result_brings_the_entries_it_names_and_their_authors(tree):
    result = tree.result(done=1, objective=2)

    assert indexes(tree.bundle(result)) == [0, 1, 2, 3]


def test_results_that_name_each_other_end(tree):
    first = tree.result(done=4)
    second = tree.result(done=3)

    assert indexes(tree.bundle(first)) == [first, second]


def test_leaves_beyond_the_header_are_refused(tree):
    header = tree.header()
    later = tree.entry(tree.consortium.keys[0]["admin"])

    with pytest.raises(InvalidInput, match="no such leaf"):
        tree.bundle(later, header=header)


def test_a_bundle_stands_on_a_final_block_only(tree):
    with pytest.raises(InvalidInput, match="final block"):
        tree.bundle(0, kind=NOTARIZE)
    other = tree.consortium.certificate(FINALIZE, 2, b"o" * 32)
    with pytest.raises(InvalidInput, match="final block"):
        tree.make([0], tree.header(), other)


def test_a_bundle_is_bounded(tree):
    key = tree.consortium.keys[0]["admin"]
    many = [tree.entry(key) for _ in range(bundle.MAX_LEAVES + 1)]

    with pytest.raises(InvalidInput, match="too large"):
        tree.bundle(*many)
