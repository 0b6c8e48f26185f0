"""The audit: silent on a ledger that is whole; names each way in which one can be false."""

from dataclasses import replace

import pytest
from audited_chain import Chain
from rules_world import Digits, named_key

from tilth_ledger import audit as audit_module
from tilth_ledger import audit_digests, canonical, findings
from tilth_ledger.audit import Audit
from tilth_ledger.audit_rows import Stored
from tilth_ledger.blocks import Certificate, Header, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput
from tilth_ledger.execution import Executor
from tilth_ledger.findings import KEPT
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf
from tilth_ledger.merkle import leaf_hash


def full_chain():
    """Keys, data, a federated training with certified tests, skipped views, an empty block."""
    chain = Chain()
    digits = Digits(chain, chain.organizations, "hospital-a")
    digits.grant_all()
    tasks, _, _ = digits.fedavg("hospital-b", rounds=1)
    chain.plan("hospital-a", tasks)
    chain.run_all()
    chain.skip = 2
    chain.submit("hospital-a", {"op": "algo.withdraw", "key": digits.algo})
    chain.time_ms += 1
    executor, parent = chain.proposer
    empty = executor.execute(parent, [], chain.time_ms)
    executor.settle(empty)
    chain.proposer[1] = empty
    chain.add_block((), empty, chain.time_ms)
    chain.environment("hospital-b")
    return chain


@pytest.fixture(scope="module")
def chain():
    return full_chain()


def system_block(chain):
    """The place of the first block that holds a certified result."""
    return next(
        i
        for i, (block, _) in enumerate(chain.blocks)
        if any(leaf_type(leaf) == CERTIFIED_RESULT for leaf in block.leaves)
    )


def leaf_type(leaf):
    return int.from_bytes(leaf[1:3])


def kinds(report):
    return {each.what for each in report.findings}


def at(report, what):
    return {each.where for each in report.findings if each.what == what}


def with_block(chain, place, **changed):
    """The stored blocks with one of them changed."""
    blocks = chain.stored()
    blocks[place] = replace(blocks[place], **changed)
    return blocks


def flipped(data, position):
    position %= len(data)
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


# ---- what is whole ----


def test_a_whole_ledger_is_clean_and_everything_in_it_was_checked(chain):
    report = chain.audit()
    counts = report.counts
    assert (report.clean, report.findings, report.stopped) == (True, [], [])
    assert (report.height, report.size, report.root) == (
        len(chain.blocks),
        chain.state.size,
        chain.state.root.hex(),
    )
    entries = sum(leaf_type(leaf) != CERTIFIED_RESULT for leaf in chain.leaves)
    assert (counts.blocks, counts.leaves) == (len(chain.blocks), len(chain.leaves))
    assert counts.signatures == entries < counts.leaves
    assert counts.certificates == 2 * len(chain.blocks)
    assert counts.rows == len(dict(chain.rows.items()))


def test_a_ledger_without_a_block_is_clean_too(chain):
    state = Executor(chain.genesis).genesis_state()
    rows = list(state.changes.items())
    assert Audit(chain.genesis).finish(Stored(rows, state.accumulator, 0, 0)).clean
    assert not Audit(chain.genesis).finish(Stored(rows[1:], state.accumulator, 0, 0)).clean


def test_progress_is_told_block_by_block(chain):
    seen = [counts.blocks for counts in Audit(chain.genesis).follow(chain.stored())]
    assert seen == list(range(1, len(chain.blocks) + 1))


def test_only_a_window_of_blocks_is_held(chain, monkeypatch):
    monkeypatch.setattr(audit_module, "WINDOW_LEAVES", 4)
    given, most = 0, 0

    def one_by_one():
        nonlocal given
        for block in chain.stored():
            given += 1
            yield block

    for counts in Audit(chain.genesis).follow(one_by_one()):
        most = max(most, given - counts.blocks)
    assert most <= 4
    assert chain.audit().clean


def test_a_ledger_under_rules_that_this_release_lacks_is_not_audited(chain):
    with pytest.raises(InvalidInput, match="lacks the rules"):
        Audit(replace(chain.genesis, rules_version=2))


# ---- leaves and signatures ----


def test_any_changed_byte_of_a_leaf_is_found(chain):
    place = 5
    leaf = chain.blocks[place][0].leaves[0]
    for position in range(0, len(leaf), 37):
        blocks = with_block(chain, place, leaves=(flipped(leaf, position),))
        report = chain.audit(blocks)
        assert "tree" in kinds(report), position
        assert {"leaf", "signature", "rule"} & kinds(report), position


def test_a_forged_signature_is_named_and_silences_nothing_else(chain):
    first, second = 4, 9
    blocks = chain.stored()
    for place in (first, second):
        forged = flipped(blocks[place].leaves[0], -1)
        blocks[place] = replace(blocks[place], leaves=(forged,))
    report = chain.audit(blocks)
    indexes = [blocks[place].size - 1 for place in (first, second)]
    assert at(report, "signature") == {
        f"leaf {index} in block {place + 1}"
        for index, place in zip(indexes, (first, second), strict=True)
    }
    assert {"rule", "row", "state"} & kinds(report) == set()
    assert report.stopped == []


def test_an_entry_that_the_rules_forbid_is_named_though_all_members_voted_for_it():
    chain = Chain()
    stranger = named_key("stranger")
    operation = {"op": "identity.add", "public": stranger.public.hex, "roles": ["owner"]}
    good = chain.entry("hospital-a", operation, role="admin")
    bad = chain.entry("hospital-b", operation, role="owner")
    state = chain.state
    frontier = state.frontier
    for leaf in (good, bad):
        frontier, _ = frontier.append(leaf_hash(leaf))
    chain.add_block((good, bad), state, chain.time_ms + 1, size=frontier.size, root=frontier.root())
    report = chain.audit()
    assert at(report, "rule") == {f"leaf {frontier.size - 1} in block {len(chain.blocks)}"}
    assert "A1" in next(each.found for each in report.findings if each.what == "rule")
    assert len(report.stopped) == 1


def test_a_false_system_leaf_is_found(chain):
    place = system_block(chain)
    entry, result = chain.blocks[place][0].leaves[:2]
    statement = canonical.loads(Leaf.decode(result).payload, max_bytes=1 << 20)
    statement["predicate"]["score"]["value"] = "0.999"
    false = Leaf(CERTIFIED_RESULT, canonical.dumps(statement)).encode()
    report = chain.audit(with_block(chain, place, leaves=(entry, false)))
    assert at(report, "rule") == {f"leaf {chain.stored()[place].size - 2} in block {place + 1}"}
    assert "T3" in next(each.found for each in report.findings if each.what == "rule")


def test_a_system_leaf_that_is_missing_is_found(chain):
    place = system_block(chain)
    entry = chain.blocks[place][0].leaves[0]
    report = chain.audit(with_block(chain, place, leaves=(entry,)))
    assert {"header", "rule", "tree"} <= kinds(report)


# ---- headers ----


@pytest.mark.parametrize(
    ("field", "value", "what"),
    [
        ("root", b"r" * 32, "tree"),
        ("state", b"s" * 32, "state"),
        ("proposer", 0, "leader"),
        ("time_ms", 5, "chain"),
        ("parent", b"p" * 32, "chain"),
        ("parent_view", 1, "chain"),
        ("height", 99, "chain"),
        ("epoch", 1, "chain"),
        ("size", 99, "header"),
        ("net", b"n" * 32, "genesis"),
        ("skips", b"s" * 32, "justification"),
    ],
)
def test_a_false_header_is_found_even_when_all_members_voted_for_it(field, value, what):
    chain = Chain()
    chain.environment("hospital-a")
    chain.time_ms += 1
    executor, parent = chain.proposer
    state = executor.execute(parent, [], chain.time_ms)
    assert chain.audit().clean
    chain.add_block((), state, chain.time_ms, **{field: value})
    report = chain.audit()
    assert what in kinds(report)
    assert (
        any(
            each.where.startswith(f"block {report.counts.blocks}")
            for each in report.findings
            if each.what == what
        )
        or field == "height"
    )


@pytest.mark.parametrize("place", [0, 3, -1])
def test_any_changed_byte_of_a_header_is_found(chain, place):
    header = chain.stored()[place].header
    for position in range(0, len(header), 7):
        report = chain.audit(with_block(chain, place, header=flipped(header, position)))
        assert not report.clean, position


def test_a_false_root_is_told_once_where_it_begins(chain):
    leaf = flipped(chain.blocks[5][0].leaves[0], -1)
    report = chain.audit(with_block(chain, 5, leaves=(leaf,)))
    roots = [where for where in at(report, "tree") if where.startswith("block")]
    assert roots == ["block 6, root"]


# ---- the chain ----


@pytest.mark.parametrize("kept", [KEPT, 3])
def test_digests_that_are_compared_late_are_found_where_they_would_be_at_once(
    chain, monkeypatch, kept
):
    monkeypatch.setattr(findings, "KEPT", kept)
    blocks = chain.stored()
    for i in (2, 3, 9):
        header = Header.decode(blocks[i].header)
        false = replace(header, state=bytes(32), proposer=(header.proposer + i % 2) % 3)
        blocks[i] = replace(blocks[i], header=false.encode())
    late = chain.audit(blocks)
    monkeypatch.setattr(audit_digests, "LATE_BLOCKS", 0)
    at_once = chain.audit(blocks)

    assert late.as_dict() == at_once.as_dict()
    assert len(late.findings) == min(kept, late.total)
    if kept == KEPT:
        assert [each.where for each in late.findings if each.what == "state"] == [
            "block 3, digest",
            "block 10, digest",
        ]


def test_a_block_that_is_left_out_is_found(chain):
    blocks = chain.stored()
    del blocks[6]
    report = chain.audit(blocks)
    assert "block 8" in at(report, "chain")


def test_the_last_block_left_out_is_found_by_what_stands_beside_it(chain):
    report = chain.audit(chain.stored()[:-1])
    assert {"row", "state", "storage"} <= kinds(report)


def test_two_blocks_that_changed_places_are_found(chain):
    blocks = chain.stored()
    blocks[3], blocks[4] = blocks[4], blocks[3]
    assert {"block 4", "block 5"} <= at(chain.audit(blocks), "chain")


def test_blocks_stored_under_each_other_s_height_are_found(chain):
    blocks = chain.stored()
    one, other = blocks[3], blocks[4]
    blocks[3], blocks[4] = replace(other, height=4), replace(one, height=5)
    assert {"block 4", "block 5"} <= at(chain.audit(blocks), "chain")


def test_a_ledger_of_another_genesis_is_told_once(chain):
    other = Audit(replace(chain.genesis, net="a" * 64))
    assert not list(other.follow(chain.stored()))
    report = other.finish(chain.beside())
    assert [each.what for each in report.findings] == ["genesis"]
    assert not report.clean


# ---- votes ----


@pytest.mark.parametrize("part", ["certificate", "justification"])
def test_any_changed_byte_of_a_proof_is_found(chain, part):
    place = next(i for i, b in enumerate(chain.blocks) if b[0].justification.skips)
    proof = getattr(chain.stored()[place], part)
    for position in range(0, len(proof), 11):
        report = chain.audit(with_block(chain, place, **{part: flipped(proof, position)}))
        assert at(report, part) == {f"block {place + 1}"}, position


def test_a_certificate_of_another_block_is_found(chain):
    other = chain.blocks[2][1].encode()
    report = chain.audit(with_block(chain, 7, certificate=other))
    assert at(report, "certificate") == {"block 8"}


def test_a_certificate_of_too_few_members_is_found(chain):
    block, whole = chain.blocks[7]
    alone = Certificate.of(list(whole.votes())[:1], 3)
    report = chain.audit(with_block(chain, 7, certificate=alone.encode()))
    assert at(report, "certificate") == {"block 8"}
    stranger = Vote.sign(
        Epoch.first(chain.genesis), named_key("stranger"), 1, whole.kind, whole.view, block.hash
    )
    false = Certificate.of([*list(whole.votes())[:1], stranger], 3)
    report = chain.audit(with_block(chain, 7, certificate=false.encode()))
    assert at(report, "certificate") == {"block 8"}


def test_a_block_is_final_through_a_later_one_but_the_last_needs_its_own(chain):
    assert chain.audit(with_block(chain, 7, certificate=None)).clean
    report = chain.audit(with_block(chain, -1, certificate=None))
    assert at(report, "certificate") == {f"block {len(chain.blocks)}"}


# ---- what is stored beside the blocks ----


def changed_rows(chain, key, value):
    rows = dict(chain.rows.items())
    if value is None:
        del rows[key]
    else:
        rows[key] = value
    return chain.beside(rows=sorted(rows.items()))


def test_a_changed_row_is_named_with_what_it_must_be(chain):
    key, row = next(iter(chain.rows.scan("dataset/")))
    value = canonical.dumps(row | {"owner": "hospital-x"})
    report = chain.audit(beside=changed_rows(chain, key, value))
    assert [(each.what, each.where) for each in report.findings] == [("row", f"row {key}")]
    assert "hospital-x" in report.findings[0].found
    assert "hospital-x" not in report.findings[0].expected


def test_a_row_too_many_and_a_row_too_few_are_found(chain):
    more = chain.audit(beside=changed_rows(chain, "task/invented", b"{}"))
    assert at(more, "row") == {"row task/invented"}
    key = next(iter(chain.rows.scan("dataset/")))[0]
    assert at(chain.audit(beside=changed_rows(chain, key, None)), "row") == {f"row {key}"}


def test_a_changed_accumulator_is_found(chain):
    for false in (None, b"short", flipped(chain.state.accumulator, 7)):
        report = chain.audit(beside=chain.beside(accumulator=false))
        assert at(report, "state") == {"stored accumulator"}


def test_rows_are_held_against_the_last_digest_when_a_block_does_not_execute(chain):
    broken = with_block(chain, 5, leaves=(b"nothing",))
    assert "state" not in kinds(chain.audit(broken))
    key, row = next(iter(chain.rows.scan("dataset/")))
    value = canonical.dumps(row | {"owner": "hospital-x"})
    report = chain.audit(broken, changed_rows(chain, key, value))
    assert "stored rows" in at(report, "state")


def test_changed_missing_and_additional_tree_nodes_are_found(chain):
    nodes = chain.nodes[7]
    level, position, hashed = nodes[-1]
    name = f"tree node {level}/{position}"
    false = (*nodes[:-1], (level, position, flipped(hashed, 3)))
    for stored in (false, nodes[:-1]):
        assert at(chain.audit(with_block(chain, 7, nodes=stored)), "tree") == {name}
    more = (*nodes, (9, 9, bytes(32)))
    assert at(chain.audit(with_block(chain, 7, nodes=more)), "tree") == {"tree node 9/9"}


def test_leaves_and_nodes_beyond_the_ledger_s_end_are_found(chain):
    size = chain.state.size
    report = chain.audit(beside=chain.beside(leaves=size + 1, nodes=0))
    assert at(report, "storage") == {"leaf index", "tree"}


# ---- the report ----


def test_a_report_keeps_some_findings_and_counts_all(chain):
    rows = [(f"false/{i}", b"{}") for i in range(2 * KEPT)]
    report = chain.audit(beside=chain.beside(rows=rows))
    assert len(report.findings) == KEPT
    assert report.total == 2 * KEPT + len(dict(chain.rows.items()))
    assert report.as_dict()["total"] == report.total


def test_a_finding_can_be_shown_on_a_terminal(chain):
    evil = "task/\x1b[2J"
    report = chain.audit(beside=changed_rows(chain, evil, b"\x1b]0;title\x07" * 100))
    assert all(c.isprintable() or c == "\n" for each in report.findings for c in str(each))
    assert all(len(each.found) < 300 for each in report.findings)


def test_a_header_that_cannot_be_read_stops_the_rules_but_not_the_rest(chain):
    blocks = with_block(chain, 5, header=b"?" * 10)
    forged = flipped(blocks[9].leaves[0], -1)
    blocks[9] = replace(blocks[9], leaves=(forged,))
    report = chain.audit(blocks)
    assert at(report, "header") == {"block 6"}
    assert at(report, "signature") == {f"leaf {blocks[9].size - 1} in block 10"}
    assert "block 6" in report.stopped[0]


def test_nothing_that_is_stored_makes_the_audit_fail(chain):
    for part in ("header", "justification", "certificate"):
        for junk in (b"", b"\xff" * 3, b"\0" * 500):
            report = chain.audit(with_block(chain, 4, **{part: junk}))
            assert part in kinds(report), (part, junk)
    huge = replace(Header.decode(chain.stored()[4].header), size=1 << 52)
    assert not chain.audit(with_block(chain, 4, header=huge.encode())).clean
