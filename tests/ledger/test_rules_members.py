"""Who votes is changed by the members, with proofs, one change at a time (M1 to M6)."""

import json

import pytest
from members_world import MembersWorld, file_of
from rules_world import PEM, named_key

from tilth_ledger import canonical, recent_heads
from tilth_ledger.epochs import membership_of, vote_key
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.execution import Executor
from tilth_ledger.leaf import EPOCH_END, Leaf
from tilth_ledger.limits import PROPOSAL_LIFETIME_MS, RECENT_COPY_LEAVES
from tilth_ledger.merkle import Frontier
from tilth_ledger.rows import MemoryRows
from tilth_ledger.versions import RULES

THREE = ["hospital-a", "hospital-b", "hospital-c"]
OTHER_PEM = PEM.replace("A" * 64, "B" * 64)


@pytest.fixture
def world():
    return MembersWorld()


def refused(rule, call, *arguments, **choices):
    with pytest.raises(Refused) as caught:
        call(*arguments, **choices)
    assert caught.value.rule == rule
    assert caught.value.remedy
    return caught.value


def quorum(world, q=3, k=3, by="hospital-a"):
    return world.propose({"kind": "quorum"}, q, k, by)


# -- M1: who decides


@pytest.mark.rule("M1")
def test_a_change_takes_effect_with_the_approval_of_q_members(world):
    key = quorum(world)
    assert world.epoch == (0, THREE, 2, 3)
    world.approve(key)
    assert world.epoch == (1, THREE, 3, 3)
    assert world.row(f"proposal/{key}")["status"] == "effective"


@pytest.mark.rule("M1")
def test_only_members_propose_and_approve(world):
    world.admit(votes=False)
    refused("M1", quorum, world, by="clinic-d")
    refused("M1", world.approve, quorum(world), by="clinic-d")


@pytest.mark.rule("M1")
def test_a_member_counts_once(world):
    refused("M1", world.approve, quorum(world), by="hospital-a")
    assert world.epoch[0] == 0


@pytest.mark.rule("M1")
def test_only_an_admin_speaks_for_a_member(world):
    operation = {"op": "member.approve", "proposal": quorum(world)}
    assert refused("A1", world.submit, "hospital-b", operation, role="scientist")


@pytest.mark.rule("M1")
def test_a_proposal_ends_with_its_epoch(world):
    stale = world.propose({"kind": "remove", "organization": "hospital-c"}, 2, 2)
    world.approve(quorum(world))
    refused("M1", world.approve, stale)
    assert world.epoch == (1, THREE, 3, 3)


@pytest.mark.rule("M1")
def test_a_proposal_expires_in_ledger_time(world):
    key = quorum(world)
    world.time_ms += PROPOSAL_LIFETIME_MS
    refused("M1", world.approve, key)


@pytest.mark.rule("M1")
def test_what_nobody_proposed_cannot_be_approved(world):
    refused("M1", world.approve, world.key("hospital-a"))


# -- M2: the leaf that ends an epoch


@pytest.mark.rule("M2")
def test_the_last_approval_is_followed_by_a_leaf_that_states_the_new_epoch(world):
    built = world.change({"kind": "quorum"}, 3, 3)
    leaf = Leaf.decode(built.leaves[-1])
    stated = canonical.loads(leaf.payload, max_bytes=1 << 16)
    assert (leaf.type, leaf.signatures) == (EPOCH_END, ())
    assert (stated["net"], stated["epoch"]) == (world.genesis.net, 1)
    assert [m["organization"] for m in stated["members"]] == THREE
    assert stated["members"][0]["vote"] == named_key("hospital-a vote").public.hex
    size = built.state.size
    assert stated["entries"] == [size - 3, size - 2]
    assert world.row("epoch/000001") == {**stated, "index": size - 1}
    assert built.state.epoch == 1


@pytest.mark.rule("M2")
def test_nothing_follows_the_end_of_an_epoch_in_its_block(world):
    approval = {"op": "member.approve", "proposal": quorum(world)}
    last = world.entry("hospital-b", approval, role="admin")
    late = world.entry("hospital-c", {"op": "organization.update", "name": "C"}, role="admin")
    built = world.record(last, late)
    assert len(built.leaves) == 2
    world = MembersWorld()
    last = world.entry(
        "hospital-b", {"op": "member.approve", "proposal": quorum(world)}, role="admin"
    )
    executor, state = world.proposer
    body = executor.build(state, [last], world.time_ms + 1).leaves
    late = world.entry("hospital-c", {"op": "organization.update", "name": "C"}, role="admin")
    refused("M2", executor.execute, state, [*body, late], world.time_ms + 1)


@pytest.mark.rule("M2")
def test_two_changes_never_take_effect_in_one_entry(world):
    first, second = quorum(world), world.propose({"kind": "remove", "organization": THREE[2]}, 2, 2)
    both = [{"op": "member.approve", "proposal": key} for key in (first, second)]
    refused("M2", world.submit, "hospital-b", *both, role="admin")
    assert world.epoch[0] == 0


@pytest.mark.rule("M2")
def test_a_leaf_that_states_another_epoch_is_refused(world):
    executor, state = world.proposer
    last = world.entry(
        "hospital-b", {"op": "member.approve", "proposal": quorum(world)}, role="admin"
    )
    entry, end = executor.build(state, [last], world.time_ms + 1).leaves
    stated = json.loads(Leaf.decode(end).payload)
    stated["q"] = 2
    false = Leaf(EPOCH_END, canonical.dumps(stated)).encode()
    with pytest.raises(Refused):
        executor.execute(state, [entry, false], world.time_ms + 1)
    with pytest.raises(Refused):
        executor.execute(state, [entry], world.time_ms + 1)
    with pytest.raises(InvalidInput):
        executor.execute(state, [end], world.time_ms + 1)


# -- M3: the numbers


@pytest.mark.rule("M3")
@pytest.mark.parametrize(("q", "k"), [(2, 2), (2, 3), (3, 3)])
def test_numbers_that_make_quorums_are_taken(world, q, k):
    world.change({"kind": "remove", "organization": "hospital-c"}, 2, 2)
    assert world.epoch == (1, THREE[:2], 2, 2)
    if (q, k) != (2, 2):
        world.admit(votes=True, q=q, k=k)
        assert world.epoch == (2, [*THREE[:2], "clinic-d"], q, k)


@pytest.mark.rule("M3")
@pytest.mark.parametrize(("q", "k"), [(1, 3), (4, 4), (3, 2), (2, 4)])
def test_numbers_that_make_no_quorum_are_refused(world, q, k):
    refused("M3", quorum, world, q, k)


@pytest.mark.rule("M3")
def test_the_last_member_stays(world):
    for name in ("hospital-c", "hospital-b"):
        world.change(
            {"kind": "remove", "organization": name},
            len(world.epoch[1]) - 1,
            2 if name == "hospital-c" else 1,
        )
    assert world.epoch[1] == ["hospital-a"]
    refused("M3", world.propose, {"kind": "remove", "organization": "hospital-a"}, 1, 1)


@pytest.mark.rule("M3")
def test_one_member_too_many_is_told_the_limit_and_admitted_without_a_vote(world, monkeypatch):
    monkeypatch.setattr("tilth_ledger.limits.MEMBERS_AFTER_A_CHANGE", 3)
    error = refused("M3", world.admit, votes=True, q=3, k=3)
    assert (error.found, "at most 3" in error.expected) == ("4 members", True)
    world.admit(votes=False)
    assert world.epoch == (1, THREE, 2, 3)


# -- M4: proof of every key


@pytest.mark.rule("M4")
def test_a_newcomer_s_keys_act_from_the_next_epoch_on(world):
    world.admit()
    assert world.row("organization/clinic-d")["votes"] is False
    world.submit("clinic-d", {"op": "organization.update", "name": "Clinic"}, role="admin")
    assert world.row("organization/clinic-d")["name"] == "Clinic"


@pytest.mark.rule("M4")
@pytest.mark.parametrize("purpose", ["vote", "cosign", "log", "node", "admin"])
def test_a_newcomer_proves_every_key(world, purpose):
    value = json.loads(file_of("clinic-d"))
    value["signatures"][purpose] = value["signatures"]["vote" if purpose != "vote" else "log"]
    change = {"kind": "admit", "member": canonical.dumps(value).decode(), "votes": False}
    refused("M4", world.propose, change)


@pytest.mark.rule("M4")
def test_nobody_s_key_is_somebody_else_s(world):
    for theirs in ("hospital-b vote", "hospital-b cosign"):
        file = file_of("clinic-d", vote=theirs)
        refused("M4", world.propose, {"kind": "admit", "member": file, "votes": False})
    world.add_identity("hospital-a", "a person", ("owner",))
    file = file_of("clinic-d", admin="a person")
    refused("M4", world.propose, {"kind": "admit", "member": file, "votes": False})


@pytest.mark.rule("M4")
def test_a_key_registered_between_proposal_and_approval_is_found(world):
    key = world.propose({"kind": "admit", "member": file_of("clinic-d"), "votes": False})
    world.add_identity("hospital-a", "clinic-d admin", ("owner",))
    refused("M4", world.approve, key)


@pytest.mark.rule("M4")
def test_rotated_keys_replace_the_old_ones_in_the_next_epoch(world):
    file = file_of("hospital-c", OTHER_PEM, vote="new vote", admin="new admin")
    built = world.change({"kind": "rotate", "member": file})
    stated = json.loads(Leaf.decode(built.leaves[-1]).payload)
    assert stated["change"]["keys"]["admin"] == named_key("new admin").public.hex
    assert vote_key(world.rows, 0, 2) == named_key("hospital-c vote").public
    assert vote_key(world.rows, 1, 2) == named_key("new vote").public
    assert vote_key(world.rows, 1, 3) is None
    member = membership_of(world.rows).members[2]
    assert member.keys.vote == named_key("new vote").public
    assert member.tls_authority == OTHER_PEM
    update = {"op": "organization.update", "name": "C"}
    world.submit("hospital-c", update, key=named_key("new admin"))
    refused("A1", world.submit, "hospital-c", update, role="admin")


@pytest.mark.rule("M4")
def test_the_tls_authority_alone_may_be_rotated(world):
    world.change({"kind": "rotate", "member": file_of("hospital-c", OTHER_PEM)})
    assert world.row("organization/hospital-c")["tls_authority"] == OTHER_PEM
    assert world.epoch[0] == 1


@pytest.mark.rule("M4")
def test_a_key_that_was_rotated_away_never_comes_back(world):
    world.change({"kind": "rotate", "member": file_of("hospital-c", admin="new admin")})
    back = file_of("hospital-c")
    refused("M4", world.propose, {"kind": "rotate", "member": back})


# -- M5: a recent copy


@pytest.mark.rule("M5")
def test_a_newcomer_with_a_recent_copy_votes_at_once(world):
    world.admit(votes=True, q=3, k=3)
    assert world.epoch == (1, [*THREE, "clinic-d"], 3, 3)
    assert world.row("organization/clinic-d")["votes"] is True


@pytest.mark.rule("M5")
def test_a_follower_becomes_a_voter_with_a_recent_copy(world):
    world.admit()
    change = {"kind": "votes", "organization": "clinic-d", "votes": True}
    refused("M5", world.propose, change, 3, 3)
    world.change({**change, "copy": world.copy_of()}, 3, 3)
    assert world.epoch == (2, [*THREE, "clinic-d"], 3, 3)


def admission(world, **copy):
    stated = world.copy_of(**copy)
    return {"kind": "admit", "member": file_of("clinic-d"), "votes": True, "copy": stated}


@pytest.mark.rule("M5")
def test_a_copy_is_recent_and_signed_by_the_vote_key(world, monkeypatch):
    refused("M5", world.propose, admission(world, signer="clinic-d admin"), 3, 3)
    refused("M5", world.propose, admission(world, size=0), 3, 3)
    refused("M5", world.propose, admission(world, size=world.state.size + 1), 3, 3)
    forged = admission(world)
    forged["copy"]["root"] = "00" * 32
    refused("M5", world.propose, forged, 3, 3)
    monkeypatch.setattr("tilth_ledger.limits.RECENT_COPY_LEAVES", 1)
    refused("M5", world.propose, admission(world), 3, 3)


@pytest.mark.rule("M5")
def test_every_voter_compares_the_root_of_a_copy_with_those_in_its_rows(world):
    world.change({"kind": "quorum"}, 3, 3)  # ends an epoch, so that its head is kept
    size, root = world.head()
    assert (size, root) == (world.state.size, world.state.root)
    other = named_key("another tree").public.raw
    error = refused("M5", world.propose, admission(world, size=size, root=other), 3, 3)
    assert root.hex()[:16] in error.expected
    refused("M5", world.propose, admission(world, size=size - 1), 3, 3)  # no row tells its root
    world.propose(admission(world), 3, 3)


@pytest.mark.rule("M5")
def test_heads_are_kept_for_every_64_leaves_and_no_longer_than_they_count(world):
    for number in range(70):
        update = {"op": "organization.update", "name": f"A {number}"}
        world.submit("hospital-a", update, role="admin")
    assert [row["size"] for _, row in world.rows.scan("head/")] == [1, 64]
    assert world.head()[1].hex() == world.row("head/001")["root"]
    assert recent_heads.ROWS * 64 > RECENT_COPY_LEAVES


# -- M6: what may change


@pytest.mark.rule("M6")
def test_who_stops_voting_goes_on_working(world):
    world.change({"kind": "votes", "organization": "hospital-c", "votes": False}, 2, 2)
    assert world.epoch == (1, THREE[:2], 2, 2)
    dataset = world.dataset("hospital-c")
    assert world.row(f"dataset/{dataset}")["owner"] == "hospital-c"
    assert [each.organization for each in membership_of(world.rows).organizations] == THREE[2:]


@pytest.mark.rule("M6")
def test_who_is_removed_signs_nothing_any_more_and_may_come_back_with_new_keys(world):
    dataset = world.dataset("hospital-c")
    world.change({"kind": "remove", "organization": "hospital-c"}, 2, 2)
    update = {"op": "organization.update", "name": "C"}
    refused("A1", world.submit, "hospital-c", update, role="admin")
    refused("A1", world.submit, "hospital-c", {"op": "dataset.withdraw", "key": dataset})
    assert membership_of(world.rows).everyone() == membership_of(world.rows).members
    again = file_of("hospital-c")
    refused("M4", world.propose, {"kind": "admit", "member": again, "votes": False}, 2, 2)
    new = file_of(
        "hospital-c", **{p: f"new {p}" for p in ("vote", "cosign", "log", "node", "admin")}
    )
    world.change({"kind": "admit", "member": new, "votes": False}, 2, 2)
    world.submit("hospital-c", update, key=named_key("new admin"))


@pytest.mark.rule("M6")
@pytest.mark.parametrize(
    "change",
    [
        {"kind": "quorum"},
        {"kind": "rules", "rules_version": 1},
        {"kind": "remove", "organization": "clinic-d"},
        {"kind": "votes", "organization": "hospital-a", "votes": True},
        {"kind": "votes", "organization": "clinic-d", "votes": True},
        {"kind": "admit", "member": file_of("hospital-a"), "votes": False},
        {"kind": "rotate", "member": file_of("hospital-a")},
        {"kind": "rotate", "member": file_of("clinic-d")},
    ],
    ids=lambda change: " ".join(str(v) for v in change.values())[:40],
)
def test_a_change_that_changes_nothing_is_refused(world, change):
    refused("M6", world.propose, change, 2, 3)


@pytest.mark.rule("M6")
def test_the_rules_version_rises_and_one_without_those_rules_stops(world):
    world.proposer[0] = Executor(world.genesis, world.rows, {**RULES, 2: RULES[1]})
    world.voter[0] = Executor(world.genesis, world.voter[0].rows, {**RULES, 2: RULES[1]})
    world.change({"kind": "rules", "rules_version": 2})
    world.submit("hospital-a", {"op": "organization.update", "name": "A"}, role="admin")
    assert world.row("epoch/000001")["rules_version"] == 2
    old = Executor(world.genesis, world.rows)
    loaded = old.load(Frontier(), world.state.accumulator, world.time_ms)
    assert (loaded.epoch, loaded.rules_version) == (1, 2)
    assert not old.knows(2)
    with pytest.raises(InvalidInput, match="lacks the rules"):
        old.execute(loaded, [], world.time_ms + 1)


def test_an_executor_that_starts_again_knows_the_epoch(world):
    world.change({"kind": "quorum"}, 3, 3)
    rows = MemoryRows(dict(world.rows.items()))
    loaded = Executor(world.genesis, rows).load(Frontier(), world.state.accumulator, world.time_ms)
    assert loaded.epoch == world.state.epoch == 1
    assert loaded.digest == world.state.digest
