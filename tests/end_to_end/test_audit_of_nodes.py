"""`tilth audit` on folders of real nodes: running, after a crash, copied, tampered with."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import hospital_code
from field import Field
from network import Network, audit, new_identity

AUDIT = (sys.executable, "-m", "tilth.cli", "audit")


def audited(folder: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and report of the command, as a process of its own."""
    done = subprocess.run(
        [*AUDIT, str(folder), "--json", *words], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def test_a_plan_with_certified_tests_audits_clean_and_a_flipped_byte_does_not(
    tmp_path: Path,
) -> None:
    with Field(tmp_path) as field:
        run = field.submit(field.averaging(goal=field.objective(), code=hospital_code.Mean))
        assert field.wait(run).outcome().ok
        folders = [site.folder for site in field.nodes.sites]
        code, live = audited(folders[0], "--hash", field.nodes.genesis.net)
        assert (code, live["findings"]) == (0, [])
        assert live["checked"]["signatures"] < live["checked"]["leaves"]  # some are certified
        size = field.net.transport.status()["size"]
        field.nodes.kill(1)
        audit(field.nodes)
        shutil.copytree(folders[1], tmp_path / "copy", ignore=shutil.ignore_patterns("run"))
    code, copied = audited(tmp_path / "copy")
    assert (code, copied["size"]) == (0, size)

    _tamper(tmp_path / "copy" / "ledger.db-wal")  # SQLite takes it for a torn tail
    code, cut_off = audited(tmp_path / "copy")
    assert (code, {each["what"] for each in cut_off["findings"]}) == (1, {"storage"})
    shutil.copyfile(folders[1] / "ledger.db-wal", tmp_path / "copy" / "ledger.db-wal")
    with closing(sqlite3.connect(tmp_path / "copy" / "ledger.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert audited(tmp_path / "copy")[0] == 0
    _tamper(tmp_path / "copy" / "ledger.db")
    code, tampered = audited(tmp_path / "copy")
    assert code == 1
    assert {"rule", "leaf", "tree"} & {each["what"] for each in tampered["findings"]}


def _tamper(file: Path) -> None:
    """Change one letter of every entry that adds an algo, wherever the file holds it."""
    data = file.read_bytes()
    assert b'"op":"algo.add"' in data
    file.write_bytes(data.replace(b'"op":"algo.add"', b'"op":"algo.axd"'))


def test_an_audit_of_a_node_that_takes_entries_meanwhile_is_clean(tmp_path: Path) -> None:
    with Network(tmp_path, members=1) as network:
        network.start()
        client = network.transport(0)
        for _ in range(40):
            client.submit(network.entry(0, [new_identity()[1]]))
        command = [*AUDIT, str(network.sites[0].folder), "--json"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                client.submit(network.entry(0, [new_identity()[1]]))
            assert process.stdout is not None
            report = json.loads(process.stdout.read())
        assert (process.returncode, report["findings"]) == (0, [])
        assert report["size"] >= 40
        audit(network)
