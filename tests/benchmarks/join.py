"""How a new node reaches a ledger of 1 M entries without replaying it, and what that costs others.

Three real members on one machine: two of them stand on copies of one large ledger and go on making
entries final, one after the other; the third begins with an empty folder. Seconds from its start
until it is on the snapshot and follows; bytes that its folder takes then; peak RSS of joiner and
givers; finality for a client meanwhile against before; then how long the past takes to come. The
ledger is made once, which takes minutes, and kept (see _ledgers.py).
"""

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import _ledgers

from tilth.transport import Transport
from tilth_ledger.errors import TilthError
from tilth_ledger.leaf import write_entry
from tilth_node import keystore
from tilth_node.storage.ledger_store import peek, peek_missing

ENTRIES = int(os.environ.get("TILTH_JOIN_ENTRIES", "1000000"))
BEFORE = 100
BAR_SECONDS, BAR_MB = 120, 150
NEWCOMER = 2


@dataclass
class Running:
    """One node's process."""

    folder: Path
    process: subprocess.Popen
    ready: dict

    def status(self, field):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
        raise AssertionError(field)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def started(folder):
    """A node that serves."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tilth.cli", "node", "run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("wb"),
    )
    assert process.stdout.readline(), (folder / "log").read_text()[-2000:]
    return Running(folder, process, json.loads((folder / "run" / "ready.json").read_bytes()))


def transport(ledger, node):
    """A client of one node."""
    name = node.folder.name
    member = next(each for each in ledger.genesis.members if each.organization == name)
    key = keystore.load_admin(node.folder / "keys")
    address, tls = node.ready["client_address"], member.tls_authority.encode()
    return Transport(address, name, ledger.genesis.net, key, tls)


class Caller:
    """Makes entries final, one after the other."""

    def __init__(self, net, client, first):
        self._net, self._client, self._number = net, client, first

    def one(self):
        """Milliseconds until an entry is final."""
        name, person = _ledgers.NAMES[0], _ledgers.person()
        operations = [_ledgers.sample(self._number, 0)]
        leaf = write_entry(self._net, name, person, f"{self._number:032x}", operations).encode()
        self._number += 1
        begun = time.perf_counter()
        self._client.submit(leaf)
        return 1000 * (time.perf_counter() - begun)


def history(folder):
    """What the folder's ledger lacks: None before there is one."""
    try:
        header = peek(folder / "ledger.db")
        return None if header is None else (header.size, peek_missing(folder / "ledger.db"))
    except (sqlite3.Error, TilthError):  # the file is being put in its place
        return None


def figure(name, value, unit, bar=None, against=""):
    """One line."""
    holds = bar is None or value <= bar
    return {
        "figure": f"join: {name}",
        "value": round(value, 1),
        "unit": unit,
        "bar": bar or 0,
        "holds": holds,
        "against": against,
        "ratio": round(value / bar, 2) if bar else 0,
    }


def measure(ledger):
    """Yields the figures."""
    names = _ledgers.NAMES
    for name in names[1:NEWCOMER]:
        shutil.copyfile(ledger.folder() / "ledger.db", ledger.folder(name) / "ledger.db")
    givers = [started(ledger.folder(name)) for name in names[:NEWCOMER]]
    joiner = None
    try:
        caller = Caller(ledger.genesis.net, transport(ledger, givers[0]), ledger.entries + 10)
        before = [caller.one() for _ in range(BEFORE)]
        floor = [node.status("VmRSS") for node in givers]
        begun = time.perf_counter()
        joiner = started(ledger.folder(names[NEWCOMER]))
        during, size = [], None
        while size is None:
            during.append(caller.one())
            found = history(joiner.folder)
            size = found if found and found[0] >= ledger.entries else None
        seconds = time.perf_counter() - begun
        taken = sum(each.stat().st_size for each in joiner.folder.glob("ledger.*"))
        yield figure(f"to the state of {ENTRIES:,} entries", seconds, "s", BAR_SECONDS)
        yield figure("its ledger's files then", taken / 1e6, "MB")
        yield figure("peak RSS of the joiner", joiner.status("VmHWM"), "MB", BAR_MB)
        peak = max(node.status("VmHWM") for node in givers)
        yield figure("peak RSS of a giver", peak, "MB", BAR_MB, f"before, {max(floor):.0f} MB")
        for name, some, other in (
            ("p50", statistics.median(during), statistics.median(before)),
            ("p99", _p99(during), _p99(before)),
        ):
            against = f"before, {other:.1f} ms"
            yield figure(f"finality for a client meanwhile, {name}", some, "ms", None, against)
        begun, missing = time.perf_counter(), size[1]
        while missing:
            during.append(caller.one())
            found = history(joiner.folder)
            missing = found[1] if found else missing
        yield figure("the past behind it", time.perf_counter() - begun, "s")
        yield figure("peak RSS of the joiner in the end", joiner.status("VmHWM"), "MB", BAR_MB)
    finally:
        for node in (*givers, *([joiner] if joiner else ())):
            node.stop()


def _p99(values):
    return sorted(values)[int(0.99 * (len(values) - 1))]


def main():
    """Yields what joining takes."""
    with tempfile.TemporaryDirectory(dir=_ledgers.cache().parent) as scratch:
        yield from measure(_ledgers.large(ENTRIES).copy(Path(scratch) / "join"))
