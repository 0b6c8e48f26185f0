"""The independent verifier proves what a real bundle proves, and refuses every other byte."""

import ast
import base64
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proven_world import (
    ALGO,
    MODEL,
    ORGANIZER,
    SITES,
    STRANGER,
    Ledger,
    done_of,
    genesis_of,
    key_of,
    objective,
    row,
    score_of,
    scored,
    site,
    spoil,
    statement_of,
)

from tilth import verifier
from tilth_ledger import canonical, merkle
from tilth_ledger.blocks import FINALIZE, NOTARIZE, Vote
from tilth_ledger.epochs import Epoch
from tilth_ledger.keys import LOW_ORDER
from tilth_ledger.leaf import CERTIFIED_RESULT, Leaf, write_entry

LEDGER, RESULTS = row()
BUNDLE = LEDGER.bundle(*RESULTS)


def verdict(data, genesis=None):
    return verifier.verify(data, genesis or LEDGER.genesis.bytes)


def refused(data, check, genesis=None):
    report = verdict(data, genesis)
    assert not report.ok
    assert report.proven == []
    assert check in report.refusal["check"], report.refusal
    assert str(report).startswith("REFUSED")
    return report


@pytest.mark.rule("B5")
def test_a_row_is_proven_with_all_its_facts():
    report = verdict(BUNDLE)

    assert report.ok, report.refusal
    assert report.facts["genesis"] == LEDGER.genesis.net
    assert report.facts["size"] == 14
    assert report.facts["signers"] == ["north", "west"]
    assert report.facts["quorum"] == "2 of 3"
    assert report.facts["time"] == "2026-11-18T11:06:40+00:00"
    assert report.facts["model"] == MODEL
    assert [r["value"] for r in report.facts["results"]] == ["0.850000", "1.000000", "0.500000"]
    assert report.facts["score"] == "0.852941"  # 29 of 34
    assert any("north (organizer)" in text for text in report.proven)
    assert any(f"after size {RESULTS[-1] + 1}" in text for text in report.not_proven)
    assert any("word is true" in text for text in report.not_proven)


def test_one_result_is_proven_without_its_objective():
    ledger = Ledger()
    report = ledger.verify(ledger.certify("south"))

    assert report.ok, report.refusal
    assert report.facts["results"][0]["value"] == "1.000000"
    assert any("which test sets" in text for text in report.not_proven)


def test_an_ordinary_entry_is_proven_too():
    report = LEDGER.verify(1)

    assert report.ok
    assert "results" not in report.facts


def test_a_row_with_missing_test_sets_has_no_score():
    ledger, results = row(certified=("north", "south"))
    report = ledger.verify(*results)

    assert report.ok
    assert "score" not in report.facts
    assert any("all 3 test sets: 2 proven" in text for text in report.not_proven)


def test_an_author_that_nobody_introduced_is_named_as_not_proven():
    report = LEDGER.verify(0)

    assert report.ok
    assert any("who wrote entry 0" in text for text in report.not_proven)


@pytest.mark.parametrize(
    ("rule", "score"),
    [("pooled", "0.852941"), ("by_site", "0.783333"), ("by_count", "0.852941")],
)
def test_scores_of_several_sets_combine_exactly(rule, score):
    ledger, _ = row(combine=rule)
    results = [ledger.certify(name, entries={"objective": 2}, combine=rule) for name in SITES]

    assert ledger.verify(*results).facts["score"] == score


@pytest.mark.parametrize(
    ("metric", "score"),
    [
        ("accuracy", "0.852941"),
        ("balanced_accuracy", "0.847368"),
        ("f1", "0.849691"),
        ("kappa", "0.699647"),
    ],
)
def test_confusion_matrices_pool_into_every_metric(metric, score):
    ledger, _ = row(metric={"builtin": metric})
    digest = canonical.sha256_hex(canonical.dumps({"builtin": metric}))
    results = [
        ledger.certify(
            name,
            entries={"objective": 2},
            done=scored(name, digest),
            metric={"builtin": metric},
            subject={"evaluation": digest},
        )
        for name in SITES
    ]

    assert ledger.verify(*results).facts["score"] == score


def test_a_metric_that_cannot_be_pooled_here_is_said_so():
    ledger, _ = row(metric={"archive": "dd" * 32, "environment": "ee" * 32})
    results = [
        ledger.certify(
            name,
            entries={"objective": 2},
            metric={"archive": "dd" * 32, "environment": "ee" * 32},
        )
        for name in SITES
    ]
    report = ledger.verify(*results)

    assert report.ok
    assert "score" not in report.facts
    assert any("cannot combine" in text for text in report.not_proven)


def test_every_changed_byte_of_the_file_is_refused():
    ledger = Ledger()
    data = ledger.bundle(ledger.certify("south"))
    assert verifier.verify(data, ledger.genesis.bytes).ok

    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 1
        assert not verifier.verify(bytes(changed), ledger.genesis.bytes).ok, at


@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_any_change_of_one_byte_of_a_row_is_refused(at, change):
    changed = bytearray(BUNDLE)
    changed[at] ^= change

    assert not verdict(bytes(changed)).ok


@given(st.integers(0, len(LEDGER.genesis.bytes) - 1), st.integers(1, 255))
def test_any_change_of_one_byte_of_genesis_is_refused(at, change):
    changed = bytearray(LEDGER.genesis.bytes)
    changed[at] ^= change

    assert not verdict(BUNDLE, bytes(changed)).ok


@given(st.integers(0, 12), st.data())
def test_any_change_inside_the_bytes_of_a_leaf_is_refused(place, data):
    value = json.loads(BUNDLE)
    item = value["leaves"][place % len(value["leaves"])]
    leaf = bytearray(base64.b64decode(item["leaf"]))
    leaf[data.draw(st.integers(0, len(leaf) - 1))] ^= data.draw(st.integers(1, 255))
    item["leaf"] = base64.b64encode(leaf).decode()

    refused(canonical.dumps(value), "leaf")


def test_another_genesis_is_refused():
    refused(BUNDLE, "genesis of the bundle", genesis_of(name="other").bytes)
    refused(BUNDLE, "genesis of the bundle", genesis_of(q=3).bytes)


def test_a_bundle_of_a_foreign_network_that_claims_this_genesis_is_refused():
    foreign = Ledger(genesis_of(name="other"))
    data = foreign.bundle(foreign.certify("south"))

    refused(spoil(data, lambda v: v.update(genesis=LEDGER.genesis.net)), "consortium of the header")


def test_foreign_votes_on_a_header_of_this_network_are_refused():
    header = LEDGER.header()
    foreign = Ledger(genesis_of(name="other")).certificate(header)
    data = spoil(BUNDLE, lambda v: v.update(certificate=foreign.encode().hex()))

    refused(data, "finality vote of north")


def test_an_old_header_proves_no_later_leaf():
    old = Ledger()
    first = old.certify("south")
    header = old.header()
    certificate = old.certificate(header)
    later = old.certify("north")

    assert old.verify(first, header=header, certificate=certificate).ok
    data = old.bundle(later)

    def turn_back(value):
        value.update(header=header.encode().hex(), certificate=certificate.encode().hex())

    refused(spoil(data, turn_back), "place of leaf", old.genesis.bytes)


def test_a_certificate_of_another_header_is_refused():
    newer = replace(LEDGER.header(), time_ms=1)
    data = spoil(BUNDLE, lambda v: v.update(header=newer.encode().hex()))

    refused(data, "block of the certificate")


def with_certificate(certificate):
    data = certificate if isinstance(certificate, bytes) else certificate.encode()
    return spoil(BUNDLE, lambda v: v.update(certificate=data.hex()))


@pytest.mark.rule("B5")
def test_too_few_signatures_are_refused():
    header = LEDGER.header()

    assert verdict(with_certificate(LEDGER.certificate(header, members=(0, 1, 2)))).ok
    refused(with_certificate(LEDGER.certificate(header, members=(1,))), "members of the")
    refused(with_certificate(b""), "length of the")


def test_one_member_signing_twice_is_refused():
    header = LEDGER.header()
    once = LEDGER.certificate(header, members=(1,))
    twice = once.encode() + once.signatures[0]

    refused(with_certificate(twice), "members of the")
    stuffed = replace(once, members=(0, 1), signatures=once.signatures * 2)
    refused(with_certificate(stuffed), "finality vote of north")


def test_a_signer_that_is_no_member_is_refused():
    header = LEDGER.header()
    vote = Vote.sign(Epoch.first(LEDGER.genesis), STRANGER, 1, FINALIZE, header.view, header.hash)
    good = LEDGER.certificate(header, members=(0, 1))
    forged = replace(good, signatures=(good.signatures[0], vote.signature))

    refused(with_certificate(forged), "finality vote of south")
    beyond = replace(good, width=8, members=(0, 7)).encode()
    refused(with_certificate(beyond[:49] + b"\x00\x03" + beyond[51:]), "members of the")


def test_a_notarization_is_not_finality():
    refused(with_certificate(LEDGER.certificate(LEDGER.header(), kind=NOTARIZE)), "kind of the")


@pytest.mark.parametrize(
    ("changes", "check"),
    [({"epoch": 1}, "epoch"), ({"view": 8}, "view"), ({"width": 4}, "number of members")],
)
def test_a_certificate_of_something_else_is_refused(changes, check):
    refused(with_certificate(LEDGER.certificate(LEDGER.header(), **changes)), check)


@pytest.mark.parametrize("time_ms", [2**64 - 1, 2**53, 253_402_300_800_000])
def test_a_time_beyond_the_calendar_is_refused(time_ms):
    ledger = Ledger()
    at = ledger.certify("south")
    header = ledger.header(time_ms=time_ms)
    data = ledger.bundle(at, header=header, certificate=ledger.certificate(header))

    refused(data, "time of the header", ledger.genesis.bytes)


def test_a_header_of_a_later_epoch_is_refused():
    ledger = Ledger()
    at = ledger.certify("south")
    header = ledger.header(epoch=1)
    data = ledger.bundle(at, header=header, certificate=ledger.certificate(header, epoch=1))

    refused(data, "epoch of the header", ledger.genesis.bytes)


@pytest.mark.parametrize("encoding", sorted(LOW_ORDER))
def test_low_order_points_are_refused(encoding):
    assert encoding in verifier.LOW_ORDER
    good = LEDGER.certificate(LEDGER.header())
    forged = replace(good, signatures=(good.signatures[0], encoding + bytes(32)))

    assert refused(with_certificate(forged), "vote of west").refusal["found"] == "a low-order point"


def test_the_verifiers_list_of_low_order_points_is_complete():
    assert verifier.LOW_ORDER == LOW_ORDER


def certified(**changes):
    """The report on one result that was certified wrongly, by colluding members."""
    ledger = Ledger()
    return ledger.verify(ledger.certify("south", **changes))


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ({"score": score_of("north")}, "score of"),
        ({"score": score_of("south") | {"value": "1"}}, "score of"),
        ({"attempt": 2}, "attempt of"),
        ({"attempt": True}, "attempt of"),
        ({"grade": "A"}, "grade of"),
        ({"task": key_of("task", "north")}, "worker's entry"),
        ({"worker": "north"}, "author of the worker's entry"),
        ({"dataset": key_of("dataset", "north")}, "owner of the data"),
        ({"net": "00" * 32}, "consortium of certified"),
        ({"set_digest": "dd" * 32}, "set_digest of"),
        ({"set_digest": ...}, "set_digest of"),
        ({"subject": {"model": "dd" * 32}}, "model of"),
        ({"subject": {"model": ""}}, "subjects of"),
        ({"subject": {"algo": "dd" * 32}}, "algo of"),
        ({"subject": {"dataset": "dd" * 32}}, "dataset of"),
        ({"subject": {"evaluation": "dd" * 32}}, "evaluation of"),
        ({"subject": {"extra": "dd" * 32}}, "subjects of"),
        ({"subject": {"model": "DD" * 32}}, "digest of the model"),
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "type of"),
        ({"predicateType": "urn:other"}, "predicate of"),
        ({"entries": {"done": 1}}, "worker's entry"),
        ({"score": ...}, "score of"),
        ({"done": done_of("south", receipt={"labels": "sealed"})}, "grade of"),
        ({"done": done_of("north")}, "worker's entry"),
    ],
)
def test_a_result_that_is_not_what_its_worker_signed_is_refused(changes, check):
    report = certified(**changes)

    assert not report.ok
    assert check in report.refusal["check"], report.refusal


def test_open_labels_are_not_certified():
    receipt = done_of("south")["receipt"] | {"labels": "open"}
    report = certified(done=done_of("south", receipt=receipt))

    assert report.refusal["check"].startswith("labels of")


@pytest.mark.rule("B5")
@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"data_check": "metadata"}, "data check of"),
        ({"data_check": ...}, "data check of"),
        ({"set": ...}, "set_digest of"),
        ({"codes": ...}, "certified result"),
        ({"codes": {"code": ALGO}}, "dataset of"),
        ({"codes": {"code": ALGO, "opener": canonical.sha256_hex(b"south")}}, "evaluation of"),
    ],
)
def test_a_receipt_that_does_not_say_enough_proves_no_result(change, check):
    receipt = done_of("south")["receipt"] | change
    receipt = {name: value for name, value in receipt.items() if value is not ...}
    report = certified(done=done_of("south", receipt=receipt))

    assert not report.ok
    assert check in report.refusal["check"], report.refusal


def test_a_worker_must_sign_with_its_nodes_key():
    for signer in (site("south")["admin"], site("north")["node"], STRANGER):
        report = certified(signer=signer)
        assert not report.ok


def test_a_node_key_that_an_admin_introduced_is_a_nodes_key():
    ledger = Ledger()
    ledger.introduce("south", STRANGER, ["node"])

    assert ledger.verify(ledger.certify("south", signer=STRANGER)).ok


def test_a_node_key_that_another_organizations_admin_introduced_is_none():
    ledger = Ledger()
    ledger.introduce("north", STRANGER, ["node"])
    report = ledger.verify(ledger.certify("south", signer=STRANGER))

    assert "organization of entry" in report.refusal["check"]


def test_a_key_introduced_as_a_scientist_is_no_node():
    ledger = Ledger()
    ledger.introduce("south", STRANGER, ["scientist"])
    report = ledger.verify(ledger.certify("south", signer=STRANGER))

    assert "author of the worker's entry" in report.refusal["check"]


def test_an_entry_for_another_network_is_refused():
    ledger = Ledger()
    at = ledger.write("south", site("south")["node"], done_of("south"), net="00" * 32)

    assert "consortium of entry" in ledger.verify(at).refusal["check"]


def test_an_entry_with_a_forged_signature_is_refused():
    ledger = Ledger()
    good = write_entry(ledger.genesis.net, "south", site("south")["node"], "00" * 16, [{"op": "x"}])
    forged = replace(good, signatures=((good.signatures[0][0], b"f" * 64),))

    assert "signature of entry" in ledger.verify(ledger.append(forged)).refusal["check"]


def test_results_of_two_models_are_no_row():
    ledger, results = row(certified=("north",))
    receipt = done_of("south")["receipt"] | {"inputs": {"model": "dd" * 32}}
    other = ledger.certify(
        "south", done=done_of("south", receipt=receipt), subject={"model": "dd" * 32}
    )

    assert "model of all results" in ledger.verify(*results, other).refusal["check"]


def test_results_of_two_algos_are_no_row():
    """Else the best algo of each test set could be picked for one model."""
    ledger, results = row(certified=("north",))
    codes = done_of("south")["receipt"]["codes"] | {"code": "dd" * 32}
    receipt = done_of("south")["receipt"] | {"codes": codes}
    done = done_of("south", receipt=receipt)
    other = ledger.certify("south", done=done, subject={"algo": "dd" * 32})

    assert "algo of all results" in ledger.verify(*results, other).refusal["check"]


def test_results_without_their_objective_have_no_score():
    """Else the entry, and the worse results with it, could be left out."""
    ledger = Ledger()
    report = ledger.verify(ledger.certify("south"), ledger.certify("north"))

    assert report.ok, report.refusal
    assert "score" not in report.facts
    assert not any("is that of all" in text for text in report.proven)


@pytest.mark.parametrize("index", [[], {}, "2", True, -1, 10**6])
def test_an_objective_s_index_that_is_none_is_no_crash(index):
    ledger = Ledger()
    ledger.certify("south", entries={"objective": index})
    report = verifier.verify(by_hand(ledger), ledger.genesis.bytes)

    assert "score" not in report.facts


def test_a_repeated_test_is_named_as_such():
    report = certified(again={"first": 1, "agrees": True})

    assert report.ok
    assert any("repeats an earlier test" in text for text in report.not_proven)


def test_a_test_set_counts_once():
    ledger, results = row()

    assert "test sets" in ledger.verify(*results, ledger.certify("west")).refusal["check"]


def test_a_set_that_the_objective_does_not_name_is_refused():
    ledger, results = row(sets=("north", "south"))

    assert "test sets" in ledger.verify(*results).refusal["check"]


@pytest.mark.parametrize(
    ("by", "roles"), [("north", ["scientist", "owner"]), ("south", ["organizer"])]
)
def test_an_objective_is_written_by_an_organizer_of_its_owner(by, roles):
    ledger = Ledger()
    ledger.introduce(by, ORGANIZER, roles)
    at = ledger.write(by, ORGANIZER, objective())
    results = [ledger.certify(name, entries={"objective": at}) for name in SITES]

    refusal = ledger.verify(*results).refusal
    assert "author of the entry of the objective" in refusal["check"]
    assert refusal["expected"] == "an organizer of north"


def test_a_result_with_another_rule_than_its_objective_is_refused():
    ledger, results = row(combine="by_site")

    assert "combine of the results" in ledger.verify(*results).refusal["check"]


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(format="tilth-bundle-2"),
        lambda v: v.update(extra=1),
        lambda v: v.pop("certificate"),
        lambda v: v.update(leaves=[]),
        lambda v: v.update(leaves={}),
        lambda v: v.update(leaves=[5]),
        lambda v: v.update(leaves=v["leaves"] * 50),
        lambda v: v.update(header=5),
        lambda v: v.update(header="zz"),
        lambda v: v.update(header=v["header"][:-2]),
        lambda v: v.update(header=v["header"].upper()),
        lambda v: v["leaves"].append(v["leaves"][0]),
        lambda v: v["leaves"][0].update(index=-1),
        lambda v: v["leaves"][0].update(index=True),
        lambda v: v["leaves"][0].update(index="0"),
        lambda v: v["leaves"][0].update(index=2**53 - 1),
        lambda v: v["leaves"][0].update(path=v["leaves"][0]["path"][:-1]),
        lambda v: v["leaves"][0].update(path=v["leaves"][0]["path"] + ["00" * 32]),
        lambda v: v["leaves"][0].update(path=["00"]),
        lambda v: v["leaves"][0].update(path=[5]),
        lambda v: v["leaves"][0].update(leaf="é"),
        lambda v: v["leaves"][0].update(leaf=v["leaves"][0]["leaf"] + "\n"),
        lambda v: v["leaves"][0].update(note=1),
        lambda v: [item.update(index=item["index"] + 1) for item in v["leaves"]],
    ],
)
def test_a_malformed_bundle_is_refused(change):
    refused(spoil(BUNDLE, change), "")


def test_a_number_has_one_form():
    data = LEDGER.bundle(0)
    assert data.count(b'"index":0') == 1

    assert verdict(data).ok
    for form in (b"-0", b"00", b"0e0", b"0.0", b'"0"', b"+0"):
        refused(data.replace(b'"index":0', b'"index":' + form), "")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"null",
        b"5",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"format":"tilth-bundle-1","format":"tilth-bundle-1"}',
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":' + b"9" * 10_000 + b"}",
        b'{"a":"\\ud800"}',
        b" " * (verifier.MAX_BUNDLE_BYTES + 1),
    ],
)
def test_hostile_bytes_are_refused_on_either_side(data):
    refused(data, "")
    refused(BUNDLE, "", data or b" ")


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.booleans() | st.floats(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ),
    st.data(),
)
def test_nothing_in_the_place_of_anything_makes_it_raise(value, data):
    bundle_value = json.loads(BUNDLE)
    genesis_value = json.loads(LEDGER.genesis.bytes)
    for root in (bundle_value, genesis_value):
        where = root
        while isinstance(where, dict | list) and where:
            keys = list(where) if isinstance(where, dict) else list(range(len(where)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(where[key], dict | list) or data.draw(st.booleans()):
                where[key] = value
                break
            where = where[key]

    dumped = json.dumps(bundle_value).encode(), json.dumps(genesis_value).encode()
    str(verifier.verify(dumped[0], LEDGER.genesis.bytes))
    str(verifier.verify(BUNDLE, dumped[1]))
    str(verifier.verify(*dumped))


def by_hand(ledger):
    """A bundle of all leaves, whatever stands in them."""
    header = ledger.header()
    proofs = [
        {
            "index": index,
            "leaf": base64.b64encode(leaf).decode(),
            "path": [
                step.hex()
                for step in merkle.inclusion_proof(index, header.size, lambda *at: ledger.nodes[at])
            ],
        }
        for index, leaf in enumerate(ledger.leaves)
    ]
    return canonical.dumps(
        {
            "format": "tilth-bundle-1",
            "genesis": ledger.genesis.net,
            "header": header.encode().hex(),
            "certificate": ledger.certificate(header).encode().hex(),
            "leaves": proofs,
        }
    )


@given(
    st.recursive(
        st.integers(-5, 5) | st.text(max_size=5) | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=5,
    ),
    st.data(),
)
def test_colluding_members_can_make_it_refuse_but_not_raise(value, data):
    """Every signature is good, but a signed content holds anything anywhere."""
    ledger = Ledger()
    done = done_of("south")
    statement = statement_of(ledger.genesis.net, "south", {"done": 0, "objective": 1})
    goal = objective(sets=("south",))
    where = data.draw(st.sampled_from([done, statement, goal]))
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(where[key], dict | list) or not where[key] or data.draw(st.booleans()):
            where[key] = value
            break
        where = where[key]
    ledger.write("south", site("south")["node"], done)
    ledger.write("north", site("north")["node"], goal)
    ledger.append(Leaf(CERTIFIED_RESULT, canonical.dumps(statement)))
    str(verifier.verify(by_hand(ledger), ledger.genesis.bytes))


def test_a_report_shows_no_control_characters():
    ledger = Ledger()
    ledger.write("south", site("south")["node"], done_of("south", task="\x1b[2J"))
    report = ledger.verify(ledger.certify("south", done=done_of("south"), task="\x1b[2J"))

    assert "\x1b" not in str(report)


def test_it_stands_alone():
    """One file that imports the standard library and cryptography, and runs as a script."""
    source = Path(verifier.__file__)
    tree = ast.parse(source.read_text())
    imported = {
        (node.module if isinstance(node, ast.ImportFrom) else name.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }

    assert imported - set(sys.stdlib_module_names) == {"cryptography"}


def run_script(tmp_path, *arguments):
    """The file alone, copied to where no package of ours can be imported."""
    script = tmp_path / "verifier.py"
    script.write_bytes(Path(verifier.__file__).read_bytes())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_says_proven_refused_or_unreadable(tmp_path):
    (tmp_path / "genesis.json").write_bytes(LEDGER.genesis.bytes)
    (tmp_path / "row.json").write_bytes(BUNDLE)
    (tmp_path / "bad.json").write_bytes(BUNDLE.replace(b'"index":4', b'"index":9', 1))

    good = run_script(tmp_path, "genesis.json", "row.json")
    assert (good.returncode, good.stdout.splitlines()[0]) == (0, "PROVEN")
    assert "score: 0.852941" in good.stdout
    as_json = run_script(tmp_path, "genesis.json", "row.json", "--json")
    assert json.loads(as_json.stdout)["facts"]["score"] == "0.852941"
    bad = run_script(tmp_path, "genesis.json", "bad.json")
    assert (bad.returncode, bad.stdout.splitlines()[0]) == (1, "REFUSED")
    missing = run_script(tmp_path, "genesis.json", "none.json")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "none.json" in missing.stderr
