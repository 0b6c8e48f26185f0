"""Evidence as bytes and as a rule (E1): one form, two signatures, once, before all entries."""

from dataclasses import replace

import pytest
from audited_chain import Chain
from rules_world import World, named_key
from stage import Stage

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.evidence import Evidence, between
from tilth_ledger.leaf import EVIDENCE, Leaf

STAGE = Stage(4, away=[0, 1, 2, 3])
NET = STAGE.genesis.net
ONE, TWO, NONE = b"1" * 32, b"2" * 32, bytes(32)
PAIRS = {
    "notarize-notarize": ((NOTARIZE, ONE), (NOTARIZE, TWO)),
    "notarize-finalize": ((NOTARIZE, ONE), (FINALIZE, TWO)),
    "nullify-finalize": ((NULLIFY, NONE), (FINALIZE, TWO)),
    "finalize-finalize": ((FINALIZE, ONE), (FINALIZE, TWO)),
}


def pair_of(name, member=2, view=7):
    return [STAGE.vote(member, kind, view, block) for kind, block in PAIRS[name]]


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_has_one_form_whichever_vote_was_seen_first(name):
    one, other = pair_of(name)
    assert Evidence.of(one, other) == Evidence.of(other, one)
    assert Evidence.of(one, other).name == (0, 7, 2, name)
    assert Evidence.parse(Evidence.of(other, one).leaf(NET), NET) == Evidence.of(one, other)


def test_votes_that_an_honest_member_casts_are_no_evidence():
    notarize, finalize = (STAGE.vote(2, kind, 7, ONE) for kind in (NOTARIZE, FINALIZE))
    with pytest.raises(InvalidInput, match="no evidence"):
        Evidence.of(notarize, finalize)
    with pytest.raises(InvalidInput, match="no evidence"):
        Evidence.of(notarize, STAGE.vote(1, NOTARIZE, 7, TWO))


def changed(**fields):
    value = canonical.loads(Leaf.decode(EXAMPLE).payload)
    return Leaf(EVIDENCE, canonical.dumps({**value, **fields})).encode()


EXAMPLE = Evidence.of(*pair_of("notarize-notarize")).leaf(NET)
VOTES = canonical.loads(Leaf.decode(EXAMPLE).payload)["votes"]


@pytest.mark.parametrize(
    "fields",
    [
        {"net": "00" * 32},
        {"pair": "finalize-finalize"},
        {"votes": VOTES[::-1]},
        {"votes": VOTES[:1]},
        {"votes": [VOTES[0], VOTES[0]]},
        {"votes": [VOTES[0], {**VOTES[1], "kind": "dance"}]},
        {"votes": [VOTES[0], {**VOTES[1], "more": "1"}]},
        {"votes": "many"},
        {"view": -1},
        {"view": "7"},
        {"epoch": True},
        {"more": 1},
    ],
    ids=str,
)
def test_bytes_that_no_voter_would_write_are_no_evidence(fields):
    assert changed() == EXAMPLE
    with pytest.raises(InvalidInput):
        Evidence.parse(changed(**fields), NET)


def test_signatures_and_spaces_of_its_own_make_a_leaf_another_one():
    leaf = Leaf.decode(EXAMPLE)
    for other in (
        replace(leaf, signatures=((bytes(32), bytes(64)),)),
        replace(leaf, payload=leaf.payload.replace(b",", b", ")),
    ):
        with pytest.raises(InvalidInput):
            Evidence.parse(other.encode(), NET)


def test_two_certificates_speak_against_everybody_in_both():
    one = STAGE.certificate(FINALIZE, 3, ONE, [0, 1, 2])
    other = STAGE.certificate(FINALIZE, 3, TWO, [1, 2, 3])
    assert [each.member for each in between(one, other)] == [1, 2]
    assert between(one, one) == []
    assert between(one, STAGE.certificate(FINALIZE, 4, TWO, [1, 2, 3])) == []


# -- the rule


def accusation(world, *, member=1, view=9, blocks=(ONE, TWO), key=None):
    signer = key or named_key(f"{world.organizations[member]} vote")
    votes = [
        Vote.sign(Epoch.first(world.genesis), signer, member, NOTARIZE, view, block)
        for block in blocks
    ]
    return Evidence.of(*votes).leaf(world.genesis.net)


@pytest.fixture
def world():
    return World()


@pytest.mark.rule("E1")
def test_evidence_becomes_a_row_of_its_member_for_ever(world):
    size = world.state.size
    world.record(accusation(world))
    key = "evidence/hospital-b/000000/0000000000000009/notarize-notarize"
    assert world.row(key) == {
        "organization": "hospital-b",
        "epoch": 0,
        "view": 9,
        "pair": "notarize-notarize",
        "index": size,
        "time_ms": world.time_ms,
    }


@pytest.mark.rule("E1")
def test_evidence_needs_no_author_and_stands_before_the_entries_of_its_block(world):
    entry = world.entry("hospital-a", {"op": "organization.update", "name": "A"}, role="admin")
    built = world.record(accusation(world), accusation(world, member=0), entry)
    assert [Leaf.decode(leaf).type for leaf in built.leaves] == [EVIDENCE, EVIDENCE, 1]


@pytest.mark.rule("E1")
def test_evidence_behind_an_entry_is_refused(world):
    entry = world.entry("hospital-a", {"op": "organization.update", "name": "A"}, role="admin")
    executor, state = world.voter
    with pytest.raises(Refused, match="behind an entry"):
        executor.execute(state, [entry, accusation(world)], world.time_ms + 1)


@pytest.mark.rule("E1")
def test_the_same_pair_is_recorded_once_and_another_kind_of_it_as_well(world):
    world.record(accusation(world))
    with pytest.raises(Refused, match="recorded already"):
        world.record(accusation(world, blocks=(ONE, b"3" * 32)))
    key = named_key("hospital-b vote")
    votes = [
        Vote.sign(Epoch.first(world.genesis), key, 1, FINALIZE, 9, block) for block in (ONE, TWO)
    ]
    world.record(Evidence.of(*votes).leaf(world.genesis.net))
    assert len(list(world.rows.scan("evidence/hospital-b/"))) == 2


@pytest.mark.rule("E1")
def test_nobody_stands_accused_by_a_vote_that_its_member_did_not_sign(world):
    with pytest.raises(InvalidInput):
        world.record(accusation(world, key=named_key("hospital-c vote")))
    with pytest.raises(InvalidInput):
        Evidence.parse(accusation(world), "00" * 32)
    assert not list(world.rows.scan("evidence/"))


@pytest.mark.rule("E1")
def test_an_audit_passes_a_ledger_with_evidence_and_finds_forged_evidence():
    chain = Chain()
    chain.record(accusation(chain))
    assert chain.audit().clean
    forged = accusation(chain, view=10, key=named_key("hospital-c vote"))
    chain.add_block((forged,), chain.state, chain.time_ms + 1)
    report = chain.audit()
    assert not report.clean
    assert any(each.what == "rule" for each in report.findings)
