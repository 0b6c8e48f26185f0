"""Ledgers recorded under each version of the rules: this release audits them all, whole.

How to add one: "Versions of the rules" in ledger/README.md. A failure here means that this release
would call an old ledger false, or a false one true.
"""

import json
from dataclasses import replace

import pytest
from record_ledger import FIXTURES, facts_of, read, write

from tilth import verifier
from tilth_ledger.audit import Audit
from tilth_ledger.genesis import RULES_VERSION
from tilth_ledger.leaf import PAYLOAD_TYPES
from tilth_ledger.operations import OPERATIONS
from tilth_ledger.rules_members import _MAKERS
from tilth_ledger.versions import RULES

RECORDED = sorted(FIXTURES.glob("rules_*"))


def audited(genesis, blocks, stored):
    auditor = Audit(genesis)
    for _ in auditor.follow(blocks):
        pass
    return auditor.finish(stored)


@pytest.fixture(scope="module", params=RECORDED, ids=lambda folder: folder.name)
def recorded(request):
    return request.param, *read(request.param)


def test_every_version_of_the_rules_has_a_recorded_ledger():
    assert {folder.name for folder in RECORDED} == {f"rules_{version}" for version in RULES}


def test_a_recorded_ledger_audits_clean_and_comes_to_its_rows(recorded):
    folder, genesis, blocks, stored = recorded
    facts = json.loads((folder / "facts.json").read_text())
    report = audited(genesis, blocks, stored)

    assert [str(each) for each in report.findings] == []
    assert report.clean
    assert facts_of(genesis, blocks, stored) == facts
    assert (report.net, report.height, report.size) == (
        facts["net"],
        facts["height"],
        facts["size"],
    )
    assert f"rules_{report.rules_version}" == folder.name
    assert report.counts.rows == facts["rows"]


def test_its_row_is_proven_by_the_verifier_of_today(recorded):
    folder, genesis, _, _ = recorded
    report = verifier.verify((folder / "row.json").read_bytes(), genesis.bytes)

    assert report.ok, report.refusal
    assert report.facts["score"] == "0.900000"
    assert report.facts["epoch"] == 6
    assert "rank 1, one of 1 rows" in report.facts["stood"]
    assert report.facts["signed with ML-DSA-44"] == ["hospital-a", "clinic-d", "hospital-b"]
    assert report.facts["weakest link"].startswith("2 of 3 members of epoch 0 began epoch 1")


def test_one_changed_leaf_or_row_of_it_is_found(recorded):
    _, genesis, blocks, stored = recorded
    place = len(blocks) // 2
    leaf = blocks[place].leaves[0]
    spoiled = leaf.replace(b'"nonce":"0', b'"nonce":"1', 1)
    assert spoiled != leaf
    changed = [*blocks]
    changed[place] = replace(blocks[place], leaves=(spoiled, *blocks[place].leaves[1:]))
    assert not audited(genesis, changed, stored).clean
    rows = [*stored.rows]
    key, value = rows[place]
    rows[place] = key, value[:-2] + b" }"
    assert not audited(genesis, blocks, replace(stored, rows=rows)).clean


def test_the_newest_one_holds_all_that_its_rules_know():
    facts = json.loads((FIXTURES / f"rules_{RULES_VERSION}" / "facts.json").read_text())

    assert facts["operations"] == sorted(OPERATIONS)
    assert facts["leaf types"] == sorted(PAYLOAD_TYPES)
    first = {"rules"} if RULES_VERSION == 1 else set()  # there is no version before 1
    assert {*facts["changes of members"]} == {*_MAKERS} - first


def test_recorded_ledgers_stay_small():
    for folder in RECORDED:
        assert sum(file.stat().st_size for file in folder.iterdir()) < 300_000


def test_what_records_a_ledger_works(tmp_path):
    """The next version will need it."""
    write(tmp_path)
    assert audited(*read(tmp_path)).clean
    [newest] = [folder for folder in RECORDED if folder.name == f"rules_{RULES_VERSION}"]
    written = json.loads((tmp_path / "facts.json").read_text())
    assert written["operations"] == json.loads((newest / "facts.json").read_text())["operations"]
