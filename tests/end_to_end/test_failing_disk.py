"""Disks that fail under a real node, by the kernel's word: the node ends at once, says which file,
and asks nothing of it again; when it is back it asks the others before it votes.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import pytest
from injected import Fault, Injected, needs_strace
from network import Network, has_reached, new_identity, same_ledger

from tilth.errors import TilthError
from tilth.transport import Receipt

pytestmark = pytest.mark.slow
Sent = Future[list[Receipt | TilthError]]
JOURNAL, LEDGER, COSIGNATURES = "journal/votes", "ledger.db-wal", "cosignatures.db-wal"
SYNCS = "fsync,fdatasync"
FAULTS = (
    Fault(JOURNAL, SYNCS, "error=EIO"),
    Fault(JOURNAL, "pwrite64", "error=ENOSPC"),
    Fault(LEDGER, SYNCS, "error=EIO"),
    Fault(LEDGER, "pwrite64", "error=ENOSPC", once=False),
    Fault(COSIGNATURES, SYNCS, "error=EIO"),
    Fault(COSIGNATURES, "pwrite64", "error=ENOSPC"),
)
# Ways that are like those; some seconds each: MORE_FAULTS=1 (make disk-faults) tries them too.
MORE = (
    Fault(JOURNAL, SYNCS, "error=EIO", once=False),
    Fault(JOURNAL, SYNCS, "error=ENOSPC"),
    Fault(JOURNAL, "pwrite64", "error=EIO"),
    Fault(JOURNAL, "pwrite64", "error=ENOSPC", once=False),
    Fault(LEDGER, SYNCS, "error=EIO", once=False),
    Fault(LEDGER, SYNCS, "error=ENOSPC"),
    Fault(LEDGER, "pwrite64", "error=EIO"),
    Fault(LEDGER, "pwrite64", "error=ENOSPC"),
    Fault(COSIGNATURES, SYNCS, "error=EIO", once=False),
    Fault(COSIGNATURES, SYNCS, "error=ENOSPC"),
    Fault(COSIGNATURES, "pwrite64", "error=EIO"),
)
if os.environ.get("MORE_FAULTS") == "1":
    FAULTS += MORE


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with Network(tmp_path_factory.mktemp("disk"), members=3) as network:
        network.start()
        yield network


def breaks(network: Network, harm: Callable[[], None] = lambda: None) -> str:
    """Entries through node 0 until it ends, and one through another node; what 0 logged. Then it is
    started again, and nothing that was acknowledged is lost."""
    site = network.sites[0]
    assert site.process is not None
    before = len(site.log)
    client = network.transport(0)
    first = network.entry(0, [new_identity()[1]])
    receipt = client.submit(first)
    harm()
    sent = works_until_it_ends(network)
    said = site.log[before:]
    acknowledged = {first: receipt}
    for entry, answer in sent.items():
        if answer.done() and answer.exception() is None:
            [acknowledged[entry]] = answer.result()
    network.submit(1, [new_identity()[1]])
    network.start(0)
    client = network.transport(0)
    assert all(client.submit(entry) == old for entry, old in acknowledged.items())
    last = max(client.submit(entry).size for entry in sent)
    status = votes_again(network)
    assert (status["alarm"], status["evidence_count"]) == ("", 0)
    assert status["size"] >= last
    return said


def works_until_it_ends(network: Network) -> dict[bytes, Sent]:
    """One entry after the other through node 0, whose disk fails: what the other two make final
    before it voted asks nothing of its journal, but it leads one view of three."""
    client, process = network.transport(0), network.sites[0].process
    assert process is not None
    sent: dict[bytes, Sent] = {}
    while process.poll() is None:
        entry = network.entry(0, [new_identity()[1]])
        sent[entry] = client.submit_soon([entry])
        wait((sent[entry],), timeout=0.5)
    assert network.ended(0) == 1
    return sent


def votes_again(network: Network) -> dict[str, Any]:
    """The status of node 0 once it votes: when the others have told what they hold of it."""
    client = network.transport(0)
    while not (status := client.status())["voting"]:
        pass
    return status


@pytest.mark.rule("F7")
@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_call_that_fails_ends_the_node_which_names_the_file_and_never_tries_again(
    network: Network, fault: Fault
) -> None:
    with Injected(network.sites[0], fault) as injected:
        said = breaks(network, injected.begin)
    assert str(network.sites[0].folder / fault.file.removesuffix("-wal")) in said
    assert "look at the disk" in said
    assert "start the node again" in said
    assert "INJECTED" in injected.calls()[-1]
    same_ledger(network, [0, 1, 2])


@pytest.mark.rule("F7")
def test_after_its_disk_failed_a_node_that_is_alone_does_not_vote(network: Network) -> None:
    """What the disk kept is unknown: the others are asked first."""
    with Injected(network.sites[0], FAULTS[0]) as injected:
        injected.begin()
        works_until_it_ends(network)
    for i in (1, 2):
        network.stop(i)
    network.start(0)
    client = network.transport(0)
    waiting = client.submit_soon([network.entry(0, [new_identity()[1]])])
    assert not client.status()["voting"]
    network.start(1)
    assert waiting.result()
    votes_again(network)
    network.start(2)
    same_ledger(network, [0, 1, 2])


def test_a_write_that_the_disk_lost_without_a_word_is_noticed_and_fetched_again(
    network: Network,
) -> None:
    """Part of a transaction is not there after a crash, and SQLite drops it and all behind it. The
    journal promises what was lost, and with it the views whose votes are in the journal no more:
    when the others gave the blocks back, the node votes again."""
    lost = Fault(LEDGER, "pwrite64", "retval=100")
    entries = [network.entry(0, [new_identity()[1]]) for _ in range(4)]
    with Injected(network.sites[0], lost) as injected:
        injected.begin()
        receipts = [network.transport(0).submit(entry) for entry in entries]
        network.kill(0)
    before = len(network.sites[0].log)
    network.start(0)
    client = network.transport(0)
    assert [client.submit(entry) for entry in entries] == receipts
    receipt = network.submit(1, [new_identity()[1]])
    has_reached(client, receipt.size)
    assert votes_again(network)["alarm"] == ""
    assert "were promised: it lost data" in network.sites[0].log[before:]
    same_ledger(network, [0, 1, 2])


WRITER = """
import sys
from pathlib import Path
from tilth_node.storage.database import Database
database = Database(Path(sys.argv[1]), "CREATE TABLE t (a BLOB)", 1)
print("opened", flush=True)
for _ in range(40):
    with database.transaction() as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(1000000))")
print("never noticed")
"""


@pytest.mark.rule("F7")
@pytest.mark.parametrize(
    ("calls", "how"),
    [
        (SYNCS, "error=EIO:when=2+"),  # the first is of its making
        (SYNCS, "error=EIO:when=2"),  # and who tries again succeeds
        ("pwrite64", "error=ENOSPC:when=4+"),
        ("pwrite64", "error=EIO:when=4"),
    ],
)
def test_a_log_that_cannot_be_copied_into_its_file_is_an_error_as_any_other(
    tmp_path: Path, calls: str, how: str
) -> None:
    """SQLite, left to itself, keeps it to itself."""
    needs_strace()
    file = tmp_path / "some.db"
    pipe = subprocess.PIPE
    words = ("strace", "-f", "-o", "/dev/null", "-P", str(file), "-e", f"trace={calls}")
    fails = ("-e", f"inject={calls}:{how}")
    command = [*words, *fails, sys.executable, "-c", WRITER, str(file)]
    done = subprocess.run(command, stdout=pipe, stderr=pipe, text=True, check=False)
    assert done.stdout == "opened\n"
    assert "sqlite3.OperationalError: d" in done.stderr  # disk I/O error, database or disk is full
    assert done.returncode == 1
