"""Scenarios that pass with a rule and fail without it (removals): one rule each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from checker import Checker
from links import Node
from number_ledger import Numbers, consortium
from rules_world import World
from stage import Stage

from tilth_ledger.blocks import (
    FINALIZE,
    NOTARIZE,
    NULLIFY,
    ZERO_HASH,
    Block,
    Certificate,
    Header,
    Justification,
    Vote,
)
from tilth_ledger.cosigning import Head, Schedule
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.history import Past, Stretch
from tilth_ledger.lthash import LtHash
from tilth_ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash, verify_inclusion
from tilth_ledger.messages import Proposal, Status, Votes
from tilth_ledger.snapshot_rows import Part, Taken
from tilth_ledger.snapshots import Milestone, Voters

HASH = b"h" * 32


def must_refuse(check: Callable[[], object]) -> None:
    try:
        check()
    except InvalidInput:
        return
    raise AssertionError("this was taken for good")


def a_store_that_lost_blocks_does_not_vote() -> None:
    """Its journal promises three blocks, its store has none, and the others say that they know of
    no vote: it waits until it has the blocks again."""
    stage = Stage(3)
    for text in "abc":
        stage.submit(0, text)
        stage.settle()
    stage.isolate(0)
    stage.submit(0, "d")  # makes the journal promise what the store holds
    stage.pass_ms(2_000)
    stage.crash(0)
    archive = stage.disks[0].archive
    archive.blocks, archive.certificates, archive.state = [], {}, Numbers()
    stage.restart(0)
    for member in (1, 2):
        stage.play(member, 0, Status(0, 1, 1, 0, 0, 0, bytes(32), False, ()))
    assert stage.replicas[0]._core.is_confirmed
    assert not stage.replicas[0].votes


def votes_of_before_a_crash_count() -> None:
    """Three members of three notarized a block and then gave its view up, nobody heard of it, and
    all crash: votes that are counted nowhere would stop them for ever (commonware #4275)."""
    stage = Stage(3, 3)
    stage.submit(1, "leaf1")
    stage.deliver_one()
    stage.deliver_one()
    stage.drop_messages()
    for member in range(3):
        stage.isolate(member)
    for member in (0, 2):
        stage.submit(member, f"leaf{member}")
    stage.pass_ms(5_000)
    for member in range(3):
        assert len(stage.signed(member, NOTARIZE) | stage.signed(member, NULLIFY)) == 2
        stage.crash(member)
    for member in range(3):
        stage.restart(member)
    stage.mend()
    stage.submit(0, "after")
    stage.pass_ms(120_000)
    assert "after" in stage.texts(0)


def votes_of_far_views_fill_no_memory() -> None:
    stage = Stage(4, away=[3])
    for start in range(10, 3_000, 100):
        votes = tuple(stage.vote(3, NULLIFY, view) for view in range(start, start + 100))
        stage.play(3, 0, Votes(votes))
    assert stage.replicas[0].held["views"] < 100


def a_changed_row_is_of_no_snapshot() -> None:
    rows = (("a", b"1"), ("b", b"2"))
    digest = LtHash().replace((), rows).digest()
    good = Taken().after(Part(2, (), rows, ended=True), lambda _: None)
    good.check(digest)
    bad = Taken().after(Part(2, (), (("a", b"1"), ("b", b"3")), ended=True), lambda _: None)
    must_refuse(lambda: bad.check(digest))


def a_forged_snapshot_is_none() -> None:
    epoch = consortium(3).epoch
    milestone = _first_block(ZERO_HASH)
    milestone.check(epoch)
    forged = tuple(bytes(64) for _ in milestone.certificate.signatures)
    certificate = replace(milestone.certificate, signatures=forged)
    must_refuse(lambda: replace(milestone, certificate=certificate).check(epoch))


def a_past_that_does_not_link_is_none() -> None:
    made, block = consortium(3), _first_block(ZERO_HASH).block
    past = Stretch(Frontier(0, ()), (Past(block),))
    above = replace(block.header, height=2, parent=block.hash, parent_view=1, view=2)
    past.check(made.genesis.net_bytes, above, lambda _: Voters(made.epoch, 0))
    elsewhere = replace(above, parent=HASH)
    must_refuse(
        lambda: past.check(made.genesis.net_bytes, elsewhere, lambda _: Voters(made.epoch, 0))
    )


def _first_block(state: bytes) -> Milestone:
    """An empty final block with this digest of all rows."""
    made, why = consortium(3), Justification(None)
    net = made.genesis.net_bytes
    place = (net, 0, 1, 1, net, 0, why.skips_digest)
    block = Block(Header(*place, 0, 0, EMPTY_ROOT, state, 1, 1), (), why)
    votes = [Vote.sign(made.epoch, made.keys[m], m, FINALIZE, 1, block.hash) for m in (0, 1)]
    return Milestone(Frontier(0, ()), block, Certificate.of(votes, 3))


def a_vote_of_a_follower_is_none() -> None:
    world = consortium(3, followers=1)
    vote = Vote.sign(world.epoch, world.keys[3], 3, NOTARIZE, 1, HASH)
    must_refuse(lambda: vote.verify(world.epoch))


def a_certificate_of_another_epoch_is_none() -> None:
    world = consortium(3)
    votes = [Vote.sign(world.epoch, world.keys[m], m, FINALIZE, 1, HASH) for m in (0, 1)]
    certificate = Certificate.of(votes, 3)
    later = Epoch(**{name: getattr(world.epoch, name) for name in Epoch.__dataclass_fields__})
    later = replace(later, number=1)
    certificate.verify(world.epoch)
    must_refuse(lambda: certificate.verify(later))


def a_member_twice_is_no_quorum() -> None:
    world = consortium(3)
    vote = Vote.sign(world.epoch, world.keys[1], 1, FINALIZE, 1, HASH)
    must_refuse(lambda: Certificate.of([vote, vote], 3).verify(world.epoch))


def one_vote_is_no_certificate() -> None:
    world = consortium(3)
    vote = Vote.sign(world.epoch, world.keys[1], 1, FINALIZE, 1, HASH)
    must_refuse(lambda: Certificate.of([vote], 3).verify(world.epoch))


def a_proof_that_is_too_long_is_none() -> None:
    """An inner node, shown as if it were a leaf's path cut short or drawn out."""
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    root = node_hash(left, right)
    verify_inclusion(left, 0, 2, [right], root)
    must_refuse(lambda: verify_inclusion(root, 0, 2, [], root))


def a_skip_proof_of_another_view_is_none() -> None:
    """View 3 is proposed with two proofs of view 1 and none of view 2."""
    stage = Stage(4, away=[3])
    skip = stage.certificate(NULLIFY, 1, members=[1, 2, 3])
    block, _ = stage.block(3, ["a"], skips=[skip, skip])
    stage.play(3, 0, Proposal(stage.vote(3, NOTARIZE, 3, block.hash), block))
    assert stage.replicas[0]._core.tree.get(block.hash) is None
    reasons = stage.replicas[0].faults.get("m3", {})
    assert any("not justified" in reason for reason in reasons), reasons


def a_leaf_with_another_signature_is_another_leaf() -> None:
    """The id of a leaf leaves its signatures out: garbage under a known id is not verified."""
    world = World()
    leaf = world.entry("hospital-a", world.dataset_operation("hospital-a"))
    executor, parent = world.proposer
    executor.check(parent, leaf, world.time_ms)
    must_refuse(lambda: executor.check(parent, leaf[:-1] + bytes([leaf[-1] ^ 1]), world.time_ms))


def sizes_grow() -> None:
    first = Header(*(HASH, 0, 1, 1, HASH, 0, HASH), *(0, 0, HASH, HASH, 1, 0))
    schedule = Schedule(0)
    schedule.final(replace(first, size=7, leaf_count=7))
    schedule.newest = 9
    schedule.rest()
    schedule.newest = 5  # what another process recorded
    assert Head(7, HASH, 0) not in schedule.take()


def answer_from_tip(checker: Checker, node: Node, nonce: bytes) -> None:
    """What a node would say that does not wait for a block."""
    if node.archive.blocks:
        tip = node.archive.blocks[-1]
        why = replace(tip.justification, barriers=(nonce,))
        checker.answered(node.member, replace(tip, justification=why))
