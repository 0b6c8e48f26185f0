"""A fork of real nodes, and the way out of it as operators go it.

The keys of one member are in hand: its folder is copied, and the two copies make two blocks final,
each with another member, while these cannot see each other.
"""

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from three_sites import SECONDS, Sites, asked, change, reaches_epoch, record, said

from tilth import banner, verification, verifier
from tilth.cli import main
from tilth_ledger.errors import Fatal, InvalidInput, Refused
from tilth_node import auditing, running
from tilth_node.clock import Clock
from tilth_node.rotating import rotate

A, B, C = "hospital-a", "hospital-b", "hospital-c"


async def forked(sites: Sites) -> bytes:
    """Hospital-a and hospital-b hold different final blocks, and have met; a proof of before."""
    await record(sites.running[A], 1)
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(node.feed.at_least(1) for node in sites.running.values()))
    bundle = await asked(sites.running[A], lambda client: client.prove(0))
    for name in (A, B, C):
        await sites.stop(name)
    shutil.copytree(sites.path(C), sites.path("twin"))
    for number, name in ((2, A), (3, B)):
        await sites.start(name)
        await sites.start(C)
        await record(sites.running[name], number)
        await sites.stop(name)
        await sites.stop(C)
        if name == A:
            shutil.rmtree(sites.path(C))
            sites.path("twin").rename(sites.path(C))
    await sites.start(A)
    await sites.start(B)
    for name in (A, B):
        assert "tilth ledger rebase" in await said(sites.running[name], "HAS FORKED")
    return bundle


def refusal_of(report: verifier.Report) -> str:
    return " ".join(report.refusal.values())


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, str]:
    capsys.readouterr()
    assert main(["ledger", "rebase", *map(str, words), "--json"]) == 0
    facts: dict[str, str] = json.loads(capsys.readouterr().out)
    return facts


async def test_a_fork_halts_both_sides_and_a_rebase_begins_anew(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bundle = await forked(sites)
    old_genesis = sites.running[A].genesis
    for name in (A, B):
        node = sites.running[name]
        assert node.replication.halted
        assert not node.replication.replica.votes
        with pytest.warns(banner.NodeWarning, match="tilth ledger rebase"):
            row = await asked(node, lambda client: client.get_row("organization/hospital-c"))
        assert row is not None, "what it holds can be read"
        with pytest.raises(Refused, match="forked"):
            await record(node, 9)
        with pytest.raises(Refused, match="forked"):
            await node.replication.barrier()
    await said(sites.running[A], "hospital-c signed two votes")
    await sites.stop(B)
    again = await sites.start(B)
    assert "HAS FORKED" in await said(again, "HAS FORKED"), "a restart does not undo the halt"
    for name in (A, B):
        await sites.stop(name)

        assert "tilth ledger rebase" in running.status(sites.path(name))["halted"]

    one, other, genesis = (tmp_path / name for name in ("a.json", "b.json", "new.json"))
    signed = run(capsys, "sign", sites.path(A), "--out", one)
    own = run(capsys, "sign", sites.path(B), "--out", tmp_path / "own.json")
    assert signed["block"] != own["block"], "each holds its own branch"
    assert (
        run(capsys, "sign", sites.path(B), "--like", one, "--out", other)["block"]
        == (signed["block"])
    )
    begun = run(
        capsys,
        "begin",
        sites.path(A),
        "--name",
        "anew",
        "--out",
        genesis,
        *("--statement", one),
        *("--statement", other),
    )
    assert begun["members"] == [A, B]
    for name in (A, B):
        run(capsys, "join", sites.path(name), genesis, "--hash", begun["net"])
    nodes = [await sites.start(name) for name in (A, B)]
    await record(nodes[0], 20)
    async with asyncio.timeout(SECONDS):
        await nodes[1].feed.at_least(1)
    assert {node.genesis.net for node in nodes} == {begun["net"]}
    assert [node.replication.alarm for node in nodes] == ["", ""]
    assert "halted" not in running.status(sites.path(A))

    kept = Path(run(capsys, "join", sites.path(C), genesis, "--hash", begun["net"])["before"])
    assert auditing.audit(kept).clean
    before = sites.path(A) / "before" / old_genesis.net[:16]
    assert auditing.audit(before).clean
    assert verifier.verify(bundle, (before / "genesis.json").read_bytes()).proven
    row = tmp_path / "row.json"
    row.write_bytes(bundle)
    refused = verification.verify(row, genesis=genesis)
    assert (refused.ok, "--before" in refusal_of(refused)) == (False, True)
    report = verification.verify(row, genesis=genesis, before=before / "genesis.json")
    assert report.ok
    assert "branch that was kept" in report.not_proven[-1]
    with pytest.raises(InvalidInput, match="not the consortium"):
        verification.verify(row, genesis=before / "genesis.json", before=genesis)
    assert main(["node", "board", str(before)]) == 0


async def test_a_ledger_that_ended_with_an_epoch_is_begun_anew_too(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await change(sites, (A, B), {"kind": "quorum"}, 3, 3)
    for name in (A, B):
        await sites.stop(name)
    introduced, waits = sites.path(A) / "peers.json", sites.path(A) / "ledger.snapshot"
    assert main(["node", "peers", str(sites.path(B)), "--out", str(introduced)]) == 0
    waits.write_bytes(b"rows of the old ledger, for the next start")
    one, other, genesis = (tmp_path / name for name in ("a.json", "b.json", "new.json"))
    run(capsys, "sign", sites.path(A), "--out", one)
    run(capsys, "sign", sites.path(B), "--out", other)
    statements = ("--statement", one, "--statement", other)
    run(capsys, "begin", sites.path(A), "--name", "x", *statements, "--out", genesis)
    for name in (A, B):
        run(capsys, "join", sites.path(name), genesis)
    nodes = [await sites.start(name) for name in (A, B)]
    await record(nodes[0], 2)
    assert nodes[0].genesis.q == 2
    [before] = (sites.path(A) / "before").iterdir()
    assert {"peers.json", "ledger.snapshot"} <= {each.name for each in before.iterdir()}


async def test_a_member_that_rotated_its_keys_begins_anew_with_those_of_now(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = rotate(sites.path(B), ["member", "node", "tls"], Clock())
    await change(sites, (A, C), {"kind": "rotate", "member": file.read_text()}, 2, 3)
    await reaches_epoch(sites.running[B], 1)
    await record(sites.running[A], 3)  # the last block is one of the new key's epoch
    async with asyncio.timeout(SECONDS):
        await sites.running[B].feed.at_least(sites.running[A].store.size)
    rotate(sites.path(B), ["member"], Clock())  # made, and never approved
    for name in (A, B, C):
        await sites.stop(name)
    one, other, genesis = (tmp_path / name for name in ("a.json", "b.json", "new.json"))
    run(capsys, "sign", sites.path(A), "--out", one)
    run(capsys, "sign", sites.path(B), "--out", other)
    statements = ("--statement", one, "--statement", other)
    run(capsys, "begin", sites.path(A), "--name", "x", *statements, "--out", genesis)
    for name in (A, B):
        run(capsys, "join", sites.path(name), genesis)
    nodes = [await sites.start(name) for name in (A, B)]
    await record(nodes[0], 2)  # which needs both votes
    assert nodes[0].genesis.q == 2


async def test_a_folder_without_the_keys_that_the_new_genesis_lists_stays(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await record(sites.running[A], 1)
    await sites.running[B].feed.at_least(1)
    for name in (A, B):
        await sites.stop(name)
    statement, genesis = tmp_path / "a.json", tmp_path / "new.json"
    run(capsys, "sign", sites.path(A), "--out", statement)
    run(capsys, "begin", sites.path(A), "--name", "x", "--statement", statement, "--out", genesis)
    seed = sites.path(B) / "keys" / "node.seed"
    kept = seed.read_text()
    seed.write_text("11" * 32 + "\n")
    capsys.readouterr()
    assert main(["ledger", "rebase", "join", str(sites.path(B)), str(genesis)]) == 1
    assert "keys that this folder does not hold" in capsys.readouterr().err
    assert not (sites.path(B) / "before").exists()
    seed.write_text(kept)
    run(capsys, "join", sites.path(B), genesis)


async def test_a_genesis_that_the_members_did_not_sign_moves_no_folder(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await record(sites.running[A], 1)
    await sites.running[B].feed.at_least(1)
    for name in (A, B):
        await sites.stop(name)
    statement, genesis = tmp_path / "a.json", tmp_path / "new.json"
    run(capsys, "sign", sites.path(A), "--out", statement)
    run(capsys, "begin", sites.path(A), "--name", "x", "--statement", statement, "--out", genesis)
    value = json.loads(genesis.read_bytes())
    value["continues"]["signatures"][A] = "00" * 64
    forged = tmp_path / "forged.json"
    forged.write_text(json.dumps(value, separators=(",", ":"), sort_keys=True))
    assert main(["ledger", "rebase", "join", str(sites.path(B)), str(forged)]) == 1
    assert main(["ledger", "rebase", "join", str(sites.path(B)), str(genesis), "--hash", "0"]) == 1
    assert not (sites.path(B) / "before").exists()
    assert (await sites.start(B)).store.size == 1


async def test_a_move_that_was_interrupted_is_finished_and_no_node_starts_before(
    sites: Sites, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    await record(sites.running[A], 1)
    await sites.stop(A)
    statement, genesis = tmp_path / "a.json", tmp_path / "new.json"
    run(capsys, "sign", sites.path(A), "--out", statement)
    run(capsys, "begin", sites.path(A), "--name", "x", "--statement", statement, "--out", genesis)
    run(capsys, "join", sites.path(A), genesis)
    before = next((sites.path(A) / "before").iterdir())
    shutil.rmtree(sites.path(A) / "journal")
    for name in ("ledger.db", "journal"):  # as a crash would leave them
        (before / name).rename(sites.path(A) / name)
    with pytest.raises(Fatal, match="another consortium"):
        await sites.start(A)
    run(capsys, "join", sites.path(A), genesis)
    assert (before / "ledger.db").exists()
    node = await sites.start(A)
    await record(node, 2)
    assert node.store.size == 1
    await sites.stop(A)
    run(capsys, "join", sites.path(A), genesis)  # once more, by mistake: the new ledger stays
    assert (await sites.start(A)).store.size == 1
    assert auditing.audit(before).clean
