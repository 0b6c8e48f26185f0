"""Blocks, votes and certificates: exact bytes, and quorums of distinct members."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.blocks import (
    FINALIZE,
    HEADER_BYTES,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Header,
    Justification,
    Kind,
    Vote,
    vote_bytes,
)
from tilth_ledger.errors import InvalidInput
from tilth_ledger.merkle import EMPTY_ROOT
from tilth_ledger.reader import Reader

HASH = b"h" * 32

numbers = st.integers(0, 2**53 - 1)
hashes = st.binary(min_size=32, max_size=32)
headers = st.builds(
    Header,
    net=hashes,
    epoch=numbers,
    view=numbers,
    height=numbers,
    parent=hashes,
    parent_view=numbers,
    skips=hashes,
    leaf_count=st.just(0),
    size=numbers,
    root=hashes,
    state=hashes,
    time_ms=numbers,
    proposer=st.integers(0, 65535),
)
signatures = st.binary(min_size=64, max_size=64)
kinds_and_blocks = st.one_of(
    st.tuples(st.just(NULLIFY), st.just(ZERO_HASH)),
    st.tuples(st.sampled_from([NOTARIZE, FINALIZE]), hashes.filter(lambda h: h != ZERO_HASH)),
)


@st.composite
def votes(draw):
    kind, block = draw(kinds_and_blocks)
    return Vote(
        kind, draw(numbers), draw(numbers), block, draw(st.integers(0, 65535)), draw(signatures)
    )


@st.composite
def certificates(draw):
    kind, block = draw(kinds_and_blocks)
    width = draw(st.integers(1, 20))
    members = tuple(sorted(draw(st.sets(st.integers(0, width - 1)))))
    signed = tuple(draw(signatures) for _ in members)
    return Certificate(kind, draw(numbers), draw(numbers), block, width, members, signed)


@st.composite
def blocks(draw):
    leaves = tuple(draw(st.lists(st.binary(max_size=50), max_size=4)))
    header = replace(draw(headers), leaf_count=len(leaves))
    parent = draw(st.none() | certificates())
    skips = tuple(draw(st.lists(certificates(), max_size=2)))
    return Block(header, leaves, Justification(parent, skips))


anything = st.one_of(headers, votes(), certificates(), blocks())


def header_of(consortium, **changes):
    """The header of a first block."""
    fields = {
        "net": consortium.genesis.net_bytes,
        "epoch": 0,
        "view": 1,
        "height": 1,
        "parent": consortium.genesis.net_bytes,
        "parent_view": 0,
        "skips": Justification(None).skips_digest,
        "leaf_count": 0,
        "size": 0,
        "root": EMPTY_ROOT,
        "state": HASH,
        "time_ms": 1,
        "proposer": 1,
    }
    return Header(**(fields | changes))


@given(anything)
def test_everything_reads_back_exactly(value):
    assert type(value).decode(value.encode()) == value


@given(anything, st.data())
def test_mutated_bytes_read_back_exactly_or_are_refused(value, data):
    encoded = bytearray(value.encode())
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    cut = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])

    for changed in (bytes(encoded), cut, bytes(encoded) + b"\0"):
        with suppress(InvalidInput):
            assert type(value).decode(changed).encode() == changed


@given(st.binary(max_size=400), st.sampled_from([Header, Vote, Certificate, Block]))
def test_random_bytes_raise_nothing_but_invalid_input(data, kind):
    with suppress(InvalidInput):
        assert kind.decode(data).encode() == data


@given(headers, st.integers(0, HEADER_BYTES - 1))
def test_every_byte_of_a_header_counts_in_its_hash(header, at):
    changed = bytearray(header.encode())
    changed[at] ^= 1

    with suppress(InvalidInput):
        assert Header.decode(bytes(changed)).hash != header.hash


def test_a_header_has_a_fixed_length():
    assert HEADER_BYTES == 2 + 32 + 3 * 8 + 32 + 8 + 32 + 4 + 8 + 32 + 32 + 8 + 2


def test_a_header_beyond_the_integers_of_json_is_refused(consortium):
    with pytest.raises(InvalidInput, match="2\\^53"):
        Header.decode(header_of(consortium, time_ms=2**53).encode())


def test_the_bytes_of_a_vote_are_pinned():
    text = vote_bytes(b"n" * 32, NULLIFY, 3, 5, ZERO_HASH)

    assert text == (
        b"tilth/vote/1\0" + b"n" * 32 + (3).to_bytes(8) + b"\x02" + (5).to_bytes(8) + bytes(32)
    )


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_vote_for_what_is_no_hash_is_never_signed(consortium, length):
    with pytest.raises(InvalidInput, match="no hash"):
        consortium.vote(0, NOTARIZE, 1, b"h" * length)


@pytest.mark.parametrize("kind", Kind)
def test_a_vote_verifies(consortium, kind):
    block = ZERO_HASH if kind is NULLIFY else HASH

    consortium.vote(2, kind, 7, block).verify(consortium.epoch)


def test_a_vote_is_of_its_member_kind_epoch_view_and_block_only(consortium):
    vote = consortium.vote(1, NOTARIZE, 7, HASH)

    for changes in (
        {"member": 0},
        {"member": 3},
        {"member": -1},
        {"kind": FINALIZE},
        {"epoch": 1},
        {"view": 8},
        {"block": b"i" * 32},
        {"signature": bytes(64)},
        {"kind": NULLIFY},
        {"kind": NULLIFY, "block": ZERO_HASH},
    ):
        with pytest.raises(InvalidInput):
            replace(vote, **changes).verify(consortium.epoch)


def test_a_vote_of_another_consortium_does_not_verify(consortium, consortium_of):
    vote = consortium_of(3, name="other").vote(1, NOTARIZE, 7, HASH)

    with pytest.raises(InvalidInput):
        vote.verify(consortium.epoch)


def test_a_certificate_of_a_quorum_verifies(consortium):
    for members in ((0, 1), (1, 2), (2, 0), (0, 1, 2)):
        certificate = consortium.certificate(members=members)
        certificate.verify(consortium.epoch)
        Certificate.decode(certificate.encode()).verify(consortium.epoch)


def test_a_certificate_gives_back_its_votes(consortium):
    for vote in consortium.certificate(members=(2, 0)).votes():
        vote.verify(consortium.epoch)


def test_the_bitmap_starts_at_the_highest_bit(consortium):
    assert consortium.certificate(members=(0, 2)).encode()[51:52] == b"\xa0"


def test_too_few_votes_are_no_certificate(consortium):
    with pytest.raises(InvalidInput, match="too few"):
        consortium.certificate(members=(1,)).verify(consortium.epoch)


def test_one_member_twice_is_no_quorum(consortium):
    with pytest.raises(InvalidInput, match="distinct"):
        consortium.certificate(members=(1, 1)).verify(consortium.epoch)


def test_members_out_of_order_are_refused(consortium):
    good = consortium.certificate()
    turned = replace(good, members=good.members[::-1], signatures=good.signatures[::-1])

    with pytest.raises(InvalidInput, match="order"):
        turned.verify(consortium.epoch)


def test_a_member_that_is_none_is_refused(consortium):
    good = consortium.certificate(members=(0, 1))

    with pytest.raises(InvalidInput):
        replace(good, members=(0, 3)).verify(consortium.epoch)


def test_a_bitmap_of_another_width_is_refused(consortium):
    good = consortium.certificate()

    for width in (2, 4, 8):
        with pytest.raises(InvalidInput, match="number of members"):
            replace(good, width=width).verify(consortium.epoch)


def test_bits_beyond_the_members_are_refused(consortium):
    data = bytearray(consortium.certificate().encode() + bytes(64))
    data[51] |= 1

    with pytest.raises(InvalidInput, match="bitmap"):
        Certificate.decode(bytes(data))


def test_swapped_or_missing_signatures_are_refused(consortium):
    good = consortium.certificate(members=(0, 1, 2))

    for wrong in (good.signatures[::-1], good.signatures[:2], (*good.signatures, bytes(64))):
        with pytest.raises(InvalidInput):
            replace(good, signatures=wrong).verify(consortium.epoch)


def test_one_bad_signature_spoils_a_certificate_even_beyond_the_quorum(consortium):
    good = consortium.certificate(members=(0, 1, 2))

    with pytest.raises(InvalidInput):
        replace(good, signatures=(*good.signatures[:2], bytes([9]) * 64)).verify(consortium.epoch)


def test_a_certificate_of_another_consortium_or_epoch_is_refused(consortium, consortium_of):
    other = consortium_of(3, name="other").certificate()

    with pytest.raises(InvalidInput):
        other.verify(consortium.epoch)
    with pytest.raises(InvalidInput, match="epoch"):
        replace(consortium.certificate(), epoch=1).verify(consortium.epoch)


def test_a_nullification_names_no_block_and_others_do(consortium):
    consortium.certificate(kind=NULLIFY, block=ZERO_HASH).verify(consortium.epoch)

    for kind, block in ((NULLIFY, HASH), (NOTARIZE, ZERO_HASH), (FINALIZE, ZERO_HASH)):
        wrong = consortium.certificate(kind=kind, block=block)
        with pytest.raises(InvalidInput, match="zero block hash"):
            wrong.verify(consortium.epoch)
        with pytest.raises(InvalidInput, match="zero block hash"):
            Certificate.decode(wrong.encode())
        with pytest.raises(InvalidInput, match="zero block hash"):
            Vote.decode(next(iter(wrong.votes())).encode())


def test_a_first_block_stands_on_genesis(consortium):
    Justification(None).verify(header_of(consortium), consortium.epoch)

    for wrong in ({"height": 2}, {"parent": HASH}, {"parent_view": 1, "view": 2}, {"view": 0}):
        with pytest.raises(InvalidInput):
            Justification(None).verify(header_of(consortium, **wrong), consortium.epoch)


@pytest.mark.parametrize("kind", [NOTARIZE, FINALIZE])
def test_a_block_stands_on_a_certified_parent(consortium, kind):
    proof = Justification(consortium.certificate(kind=kind, view=4, block=HASH))
    header = header_of(consortium, parent=HASH, parent_view=4, view=5, height=3)

    proof.verify(header, consortium.epoch)
    for wrong in ({"parent": b"i" * 32}, {"parent_view": 3, "view": 4}, {"view": 6}, {"view": 4}):
        with pytest.raises(InvalidInput):
            proof.verify(replace(header, **wrong), consortium.epoch)


def test_every_skipped_view_is_proven(consortium):
    def skip(view, **choices):
        return consortium.certificate(kind=NULLIFY, view=view, block=ZERO_HASH, **choices)

    parent = consortium.certificate(view=4, block=HASH)
    good = Justification(parent, (skip(5), skip(6)))
    header = header_of(
        consortium, parent=HASH, parent_view=4, view=7, height=3, skips=good.skips_digest
    )

    good.verify(header, consortium.epoch)
    for skips in (
        (),
        (skip(5),),
        (skip(6), skip(5)),
        (skip(5), skip(6), skip(7)),
        (skip(5), skip(5)),
        (skip(5), skip(6, members=(0,))),
        (skip(5), consortium.certificate(view=6, block=HASH)),
    ):
        wrong = Justification(parent, skips)
        with pytest.raises(InvalidInput):
            wrong.verify(replace(header, skips=wrong.skips_digest), consortium.epoch)
    other_signers = Justification(parent, (skip(5), skip(6, members=(1, 2))))
    with pytest.raises(InvalidInput, match="header binds"):
        other_signers.verify(header, consortium.epoch)


def test_a_nullification_is_no_parent(consortium):
    proof = Justification(consortium.certificate(kind=NULLIFY, view=4, block=ZERO_HASH))

    with pytest.raises(InvalidInput, match="parent"):
        proof.verify(
            header_of(consortium, parent=ZERO_HASH, parent_view=4, view=5), consortium.epoch
        )


def test_a_gap_beyond_all_bounds_is_refused_at_once(consortium):
    header = header_of(consortium, view=2**53 - 1)

    with pytest.raises(InvalidInput, match="skip proofs"):
        Justification(None).verify(header, consortium.epoch)


def test_a_block_says_how_many_leaves_it_has(consortium):
    block = Block(header_of(consortium, leaf_count=1), (b"a", b"b"), Justification(None))

    with pytest.raises(InvalidInput, match="as many"):
        Block.decode(block.encode())


def test_a_block_beyond_its_bound_is_refused(consortium):
    data = Block(header_of(consortium), (), Justification(None)).encode()

    Block.decode(data, max_bytes=len(data))
    with pytest.raises(InvalidInput, match="too large"):
        Block.decode(data, max_bytes=len(data) - 1)


def test_a_promise_of_many_leaves_costs_nothing(consortium):
    data = Block(header_of(consortium, leaf_count=2**32 - 1), (), Justification(None)).encode()

    with pytest.raises(InvalidInput, match="cut short"):
        Block.decode(data[:-4] + b"\xff\xff\xff\xff")


def test_a_reader_takes_what_is_there_and_no_more():
    reader = Reader(b"\x01\x02\x03", "thing")

    assert (reader.number(2), reader.left) == (0x0102, 1)
    with pytest.raises(InvalidInput, match="thing is cut short"):
        reader.take(2)
    with pytest.raises(InvalidInput, match="trailing"):
        reader.end()
    assert reader.take(1) == b"\x03"
    reader.end()
