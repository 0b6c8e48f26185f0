"""Two nodes need one another: who registers something while one is down is told, and loses
nothing."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from network import Network, new_identity

import tilth
from tilth import Unknown, profiles, transport, waiting
from tilth.waiting import Waiting

# `tilth`, as patient as this machine may be slow: the missing node must start meanwhile.
PATIENT = """
import sys
from tilth import cli, transport
transport.SUBMIT_TRIES = 50
sys.exit(cli.main())
"""
MISSING = r"1 of 2 members is here \(hospital-b away\)"


def test_a_person_hears_what_an_entry_waits_for_and_it_goes_on_when_that_is_there(
    networks: Callable[..., Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = networks(members=2)
    network.start()
    folder = network.genesis_file.parent
    monkeypatch.setenv("TILTH_HOME", str(folder / "home"))
    profiles.add(
        "admin",
        address=network.client_address(0),
        organization="hospital-a",
        genesis=network.genesis_file,
        key=network.sites[0].folder / "keys" / "admin.seed",
    )
    network.kill(1)
    node = network.transport(0)
    while node.status()["peers"][0]["connected"]:  # it hears of the end a moment later
        continue

    # In a script: words while it waits, an error with its facts at the end.
    with monkeypatch.context() as patch, tilth.connect("admin") as net:
        patch.setattr(transport, "SUBMIT_SECONDS", 0.5)
        patch.setattr(transport, "READ_SECONDS", 0.5)
        patch.setattr(transport, "STATUS_SECONDS", 100.0)
        patch.setattr(waiting, "FIRST_SECONDS", 0.0)
        patch.setattr(waiting, "AGAIN_SECONDS", 0.0)
        with (
            pytest.warns(Waiting, match=MISSING),
            pytest.raises(Unknown, match="too few members") as ended,
        ):
            net.record(new_identity()[1])
        assert ended.value.expected == "2 of 2 members"
        with pytest.warns(Waiting), pytest.raises(Unknown, match="too few members"):
            net.barrier()

    # On the command line: on standard error, and standard output stays clean.
    key = new_identity()[1]["public"]
    words = ["identity", "add", key, "--role", "scientist", "--profile", "admin", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", PATIENT, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    first = process.stderr.readline()
    assert first.startswith("tilth: waiting: 1 of 2 members is here (hospital-b away), 2 must vote")
    assert process.poll() is None
    network.start(1)
    out, rest = process.communicate()
    assert (process.returncode, rest) == (0, "")
    assert "waiting" not in out
    rows, _ = node.scan_rows("identity/", "", 100)
    assert key in {row["public"] for _, row in rows}
