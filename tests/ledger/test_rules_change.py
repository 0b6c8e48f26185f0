"""A change of the rules in year five, rehearsed: a version 2 that only this file knows.

It has another form (a new operation), another rule (names of three letters), another system leaf,
and begins in the middle of a ledger. Of version 1 nothing was touched.
"""

from dataclasses import replace

import pytest
from audited_chain import Chain
from members_world import MembersWorld
from record_ledger import FIXTURES
from rules_world import named_key

from tilth import verifier
from tilth_ledger import genesis as genesis_module
from tilth_ledger import operations, state
from tilth_ledger.audit import Audit
from tilth_ledger.audit_entries import Preview
from tilth_ledger.context import refuse
from tilth_ledger.dry_run import check_operations
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.execution import Executor
from tilth_ledger.genesis import RULES_VERSION, Genesis
from tilth_ledger.leaf import LEADERBOARD, Leaf, leaf_type
from tilth_ledger.merkle import Frontier
from tilth_ledger.versions import RULES, Rules

A = "hospital-a"
MOTTO = {"op": "organization.motto", "text": "first do no harm"}
SHORT = {"op": "organization.update", "name": "A"}


def check_2(operation):
    """The form of version 2: one operation more."""
    if operation.get("op") != MOTTO["op"]:
        return operations.check(operation)
    if operation.keys() != MOTTO.keys() or type(operation["text"]) is not str:
        raise InvalidInput("a motto is a text", found=operation, expected=MOTTO)
    return None


def apply_2(context, operation):
    """The rules of version 2: a motto is a row and a leaf, and a name has three letters."""
    if operation["op"] == MOTTO["op"]:
        context.rows.put(f"motto/{context.organization}", {"text": operation["text"]})
        context.derive(LEADERBOARD, {"motto": operation["text"], "entry": context.index})
        return
    if operation["op"] == SHORT["op"] and len(operation["name"]) < 3:
        found = operation["name"]
        refuse("A1", "a name has three letters", found=found, expected="three", remedy="Add some.")
    state.apply(context, operation)


TWO = Rules(check_2, apply_2)
NEXT = {**RULES, 2: TWO}


class Ledger(Chain, MembersWorld):
    """A ledger whose proposer has the next release and whose voter has today's, until it must."""

    def __init__(self, rules=NEXT):
        super().__init__()
        self.install(self.proposer, rules)

    def install(self, replica, rules=NEXT):
        replica[0] = Executor(self.genesis, replica[0].rows, rules)

    def say(self, operation):
        return self.submit(A, operation, role="admin")

    def audit_with(self, rules, blocks=None):
        auditor = Audit(self.genesis, rules=rules)
        for _ in auditor.follow(self.stored() if blocks is None else blocks):
            pass
        return auditor.finish(self.beside())


@pytest.fixture(scope="module")
def ledger():
    """Years under version 1, its end, and a while under version 2."""
    world = Ledger()
    world.dataset("hospital-b")
    world.say(SHORT)
    world.install(world.voter)  # every member has the new release before the change
    world.change({"kind": "rules", "rules_version": 2})
    world.say(MOTTO)
    world.say({"op": "organization.update", "name": "Alder"})
    world.dataset("hospital-b")
    return world


def test_a_ledger_over_two_versions_of_the_rules_audits_clean(ledger):
    report = ledger.audit_with(NEXT)
    assert [str(each) for each in report.findings] == []
    assert report.clean
    assert report.rules_version == 2
    assert ledger.genesis.rules_version == 1
    assert ledger.row(f"motto/{A}") == {"text": MOTTO["text"]}


@pytest.mark.parametrize("swapped", [{1: RULES[1], 2: RULES[1]}, {1: TWO, 2: TWO}])
def test_either_part_under_the_others_rules_is_found(ledger, swapped):
    report = ledger.audit_with(swapped)
    assert {each.what for each in report.findings} >= {"rule"}


def test_a_changed_system_leaf_of_the_new_rules_is_found(ledger):
    blocks = ledger.stored()
    kinds = [[leaf_type(leaf) for leaf in block.leaves] for block in blocks]
    at = next(at for at, types in enumerate(kinds) if LEADERBOARD in types)
    leaves = [leaf.replace(b"harm", b"farm") for leaf in blocks[at].leaves[1:]]
    blocks[at] = replace(blocks[at], leaves=(blocks[at].leaves[0], *leaves))
    assert not ledger.audit_with(NEXT, blocks).clean


def test_todays_release_audits_up_to_the_change_and_says_so(ledger):
    report = ledger.audit_with(RULES)
    assert report.findings == []
    assert any("lacks rules_version 2" in words for words in report.stopped)


def test_before_the_change_a_new_form_is_no_entry_whatever_a_release_can_read():
    world = Ledger()
    leaf = world.entry(A, MOTTO, role="admin")
    assert world.proposer[0].admit(leaf) == Leaf.decode(leaf).id  # read, and not yet judged
    with pytest.raises(InvalidInput, match="does not exist"):
        world.record(leaf)
    with pytest.raises(InvalidInput, match="does not exist"):
        world.proposer[0].execute(world.state, [leaf], world.time_ms + 1)
    key = named_key(f"{A} admin").key_id
    [problem] = check_operations(world.proposer[0], world.state, key, A, [MOTTO], world.time_ms)
    assert "does not exist" in str(problem)


def test_before_the_change_both_releases_come_to_the_same_state():
    world = Ledger()  # `record` compares root and digest of proposer and voter
    world.say(SHORT)
    world.dataset("hospital-b")
    assert not world.voter[0].knows(2)
    assert world.proposer[1].digest == world.voter[1].digest


def test_after_the_change_the_new_rule_refuses_and_a_restart_goes_on_under_it(ledger):
    with pytest.raises(Refused, match="three letters"):
        ledger.say(SHORT)
    executor = Executor(ledger.genesis, ledger.rows, NEXT)
    loaded = executor.load(Frontier(), ledger.state.accumulator, ledger.time_ms)
    assert loaded.rules_version == 2
    leaf = ledger.entry(A, SHORT, role="admin")
    with pytest.raises(Refused, match="three letters"):
        executor.execute(loaded, [leaf], ledger.time_ms + 1)


def test_an_entry_that_was_looked_at_before_the_change_is_judged_after_it():
    world = Ledger()
    waits, short = (world.entry(A, each, role="admin") for each in (MOTTO, SHORT))
    world.proposer[0].admit(waits)
    world.proposer[0].admit(short)
    world.install(world.voter)
    world.change({"kind": "rules", "rules_version": 2})
    world.record(waits)
    with pytest.raises(Refused, match="three letters"):
        world.record(short)


def test_what_is_looked_at_ahead_is_judged_by_the_rules_where_it_stands(ledger):
    blocks, preview = ledger.stored(), Preview(ledger.genesis, NEXT)
    seen = [preview.of(block.leaves) for block in blocks]
    marked = [
        replace(block, formed=formed, signed=signed)
        for block, (formed, signed) in zip(blocks, seen, strict=True)
    ]
    assert {formed for formed, _ in seen} == {True, False}  # a motto is no form of version 1
    assert ledger.audit_with(NEXT, marked).as_dict() == ledger.audit_with(NEXT).as_dict()
    for swapped in ({1: RULES[1], 2: RULES[1]}, {1: TWO, 2: TWO}):
        assert not ledger.audit_with(swapped, marked).clean


def test_the_next_release_opens_todays_genesis_and_begins_new_ones_by_the_newest(
    ledger, monkeypatch
):
    monkeypatch.setattr(genesis_module, "RULES_VERSION", RULES_VERSION + 1)
    old = Genesis.parse(ledger.genesis.bytes)
    assert old == ledger.genesis
    members, limits = old.members, dict(old.limits)
    assert Genesis.write("new", members, limits=limits).rules_version == RULES_VERSION + 1
    assert Genesis.write("old", members, limits=limits, rules_version=1).rules_version == 1
    with pytest.raises(InvalidInput, match="rules_version"):
        Genesis.write("later", members, limits=limits, rules_version=RULES_VERSION + 2)


def test_the_next_verifier_proves_a_row_of_a_ledger_of_today(monkeypatch):
    folder = FIXTURES / "rules_1"
    files = [(folder / name).read_bytes() for name in ("row.json", "genesis.json")]
    monkeypatch.setattr(verifier, "RULES_VERSION", verifier.RULES_VERSION + 1)
    report = verifier.verify(*files)
    assert report.ok, report.refusal


def test_the_newest_rules_are_those_that_a_genesis_may_begin_with():
    assert max(RULES) == RULES_VERSION == verifier.RULES_VERSION
    assert list(RULES) == list(range(1, RULES_VERSION + 1))
