"""Leaves are bytes that read back exactly; entries are strict and signed by their author alone."""

import hashlib
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import BadSignature, SigningKey
from tilth_ledger.leaf import (
    CERTIFIED_RESULT,
    ENTRY,
    MAX_LEAF_BYTES,
    PAYLOAD_TYPES,
    Entry,
    Leaf,
    pae,
    verify_author,
    write_entry,
)

KEY = SigningKey.from_seed(bytes(32))
OTHER = SigningKey.from_seed(bytes([1]) * 32)
NET, NONCE = "ab" * 32, "cd" * 16
OPERATIONS = [{"op": "identity.revoke", "identity": "00" * 32}]

leaves = st.builds(
    Leaf,
    st.sampled_from(sorted(PAYLOAD_TYPES)),
    st.binary(max_size=200),
    st.lists(
        st.tuples(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64)),
        max_size=3,
    ).map(tuple),
)


def entry(**choices):
    return write_entry(NET, "org-1", KEY, NONCE, OPERATIONS, **choices)


def signed(payload):
    """A leaf around any JSON, properly signed by KEY."""
    data = payload if isinstance(payload, bytes) else canonical.dumps(payload)
    signature = KEY.sign(pae(PAYLOAD_TYPES[ENTRY], data))
    return Leaf(ENTRY, data, ((bytes.fromhex(KEY.key_id), signature),))


def content(**changes):
    value = {
        "net": NET,
        "organization": "org-1",
        "author": KEY.key_id,
        "nonce": NONCE,
        "operations": OPERATIONS,
    }
    return {name: field for name, field in (value | changes).items() if field is not ...}


def test_the_example_of_the_dsse_specification():
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_pae_counts_bytes_not_characters():
    assert pae("é", "é".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"
    assert pae("", b"") == b"DSSEv1 0  0 "


def test_the_layout_is_pinned():
    leaf = Leaf(CERTIFIED_RESULT, b"{}", ((b"k" * 32, b"s" * 64),))

    assert leaf.encode() == b"\x01\x01\x01\x00\x00\x00\x02{}\x01" + b"k" * 32 + b"s" * 64


@given(leaves)
def test_a_leaf_reads_back_exactly(leaf):
    assert Leaf.decode(leaf.encode()) == leaf


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_invalid_input(data):
    with suppress(InvalidInput):
        assert Leaf.decode(data).encode() == data


@given(leaves, st.data())
def test_mutated_leaves_read_back_exactly_or_are_refused(leaf, data):
    encoded = bytearray(leaf.encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])

    for changed in (bytes(encoded), cut, bytes(encoded) + b"\0"):
        with suppress(InvalidInput):
            assert Leaf.decode(changed).encode() == changed


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02\x00\x01\x00\x00\x00\x00\x00",
        b"\x01\x00\x02\x00\x00\x00\x00\x00",
        b"\x01\x00\x01\x00\x00\x00\x00",
        b"\x01\x00\x01\x00\x00\x00\x00\x00\x00",
        b"\x01\x00\x01\xff\xff\xff\xff\x00",
        b"\x01\x00\x01\x00\x00\x00\x00\x01" + bytes(95),
        b"\x01\x00\x01\x00\x00\x00\x00\x11" + bytes(17 * 96),
        bytes(MAX_LEAF_BYTES + 1),
    ],
)
def test_malformed_leaves_are_refused(data):
    with pytest.raises(InvalidInput):
        Leaf.decode(data)


@pytest.mark.parametrize("pair", [(b"k" * 31, b"s" * 64), (b"k" * 32, b"s" * 65)])
def test_a_signature_of_another_length_is_never_written(pair):
    with pytest.raises(InvalidInput, match="wrong length"):
        Leaf(ENTRY, b"{}", (pair,)).encode()


def test_the_largest_leaf_is_65535_bytes():
    largest = Leaf(ENTRY, bytes(MAX_LEAF_BYTES - 8))

    assert Leaf.decode(largest.encode()) == largest
    with pytest.raises(InvalidInput, match="too large"):
        replace(largest, payload=largest.payload + b"x").encode()
    with pytest.raises(InvalidInput, match="too large"):
        write_entry(NET, "org-1", KEY, NONCE, [{"op": "x.y", "text": "x" * 70_000}])


def test_the_id_is_of_the_signed_bytes_and_leaves_signatures_out():
    leaf = entry()

    assert leaf.id == hashlib.sha256(pae(PAYLOAD_TYPES[ENTRY], leaf.payload)).hexdigest()
    assert replace(leaf, signatures=()).id == leaf.id
    assert replace(leaf, type=CERTIFIED_RESULT).id != leaf.id


def test_an_entry_is_read_back():
    parsed = Entry.parse(Leaf.decode(entry(not_after=5).encode()), 1)

    assert parsed == Entry(NET, "org-1", KEY.key_id, NONCE, tuple(OPERATIONS), 5)


def test_an_entry_without_end_has_none():
    assert Entry.parse(entry(), 1).not_after is None


def test_an_entry_verifies_under_its_author_only():
    leaf = entry()

    verify_author(leaf, KEY.public)
    with pytest.raises(InvalidInput):
        verify_author(leaf, OTHER.public)


@given(st.data())
def test_an_entry_with_one_changed_byte_does_not_verify(data):
    encoded = bytearray(entry().encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(InvalidInput):
        verify_author(Leaf.decode(bytes(encoded)), KEY.public)


def test_a_signature_over_the_payload_alone_does_not_verify():
    leaf = entry()
    bare = ((leaf.signatures[0][0], KEY.sign(leaf.payload)),)

    with pytest.raises(BadSignature):
        verify_author(replace(leaf, signatures=bare), KEY.public)


def test_an_entry_has_exactly_its_authors_signature():
    leaf = entry()
    others = ((bytes.fromhex(OTHER.key_id), OTHER.sign(leaf.signed_bytes)),)

    for signatures in ((), others, leaf.signatures * 2, leaf.signatures + others):
        with pytest.raises(InvalidInput, match="author alone"):
            Entry.parse(replace(leaf, signatures=signatures), 1)
        with pytest.raises(InvalidInput, match="author alone"):
            verify_author(replace(leaf, signatures=signatures), KEY.public)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        content(net=...),
        content(nonce=...),
        content(author=...),
        content(operations=...),
        content(organization=...),
        content(extra=1),
        content(net=NET.upper()),
        content(net=NET[:-2]),
        content(nonce=NONCE + "00"),
        content(nonce=5),
        content(author="x" * 64),
        content(organization=""),
        content(organization="x" * 101),
        content(organization=["org-1"]),
        content(operations=[]),
        content(operations=OPERATIONS * 4),
        content(operations={"op": "x"}),
        content(operations=["x"]),
        content(operations=[{}]),
        content(operations=[{"op": 1}]),
        content(operations=[{"op": "x", "value": 0.5}]),
        content(operations=[{"op": "x", "value": None}]),
        content(not_after=-1),
        content(not_after=True),
        content(not_after="5"),
        canonical.dumps(content())[:-1] + b',"nonce":"' + NONCE.encode() + b'"}',
    ],
)
def test_malformed_entries_are_refused(payload):
    with pytest.raises(InvalidInput):
        Entry.parse(signed(payload), 3)


def test_what_is_no_entry_is_refused():
    with pytest.raises(InvalidInput, match="not an entry"):
        Entry.parse(Leaf(CERTIFIED_RESULT, b"{}"), 1)


def test_an_entry_is_verified_verbatim_even_if_it_is_not_canonical():
    spaced = canonical.dumps(content()).replace(b",", b" , ")
    leaf = signed(spaced)

    assert Entry.parse(leaf, 1).organization == "org-1"
    verify_author(leaf, KEY.public)
