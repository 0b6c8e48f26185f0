"""How quickly a node with 1 M entries serves after a start, and what it holds in memory.

A real process on a real folder (one of three members, the others away), five starts; a ledger of
20,000 entries beside it shows what does not come from the ledger. The ledger is made once, which
takes minutes, and kept (see _ledgers.py). RSS is read when the node has served status, rows and
leaves from all over the ledger.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import _ledgers

ENTRIES, FEW, STARTS = 1_000_000, 20_000, 5
BAR_SECONDS, BAR_MB = 3.0, 150


def started(ledger):
    """Seconds until one node serves, and its megabytes after some reads."""
    folder = ledger.folder()
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tilth.cli", "node", "run", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        process.stdout.readline()
        seconds = time.perf_counter() - begun
        _read_around(ledger, json.loads((folder / "run" / "ready.json").read_bytes()))
        return seconds, _megabytes(process.pid)
    finally:
        process.terminate()
        process.wait()


def _read_around(ledger, ready):
    from tilth.transport import Transport
    from tilth_node import keystore

    member = ledger.genesis.members[0]
    key = keystore.load_admin(ledger.folder() / "keys")
    tls = member.tls_authority.encode()
    address = ready["client_address"]
    transport = Transport(address, member.organization, ledger.genesis.net, key, tls)
    assert transport.status()["size"] >= ledger.entries
    for part in range(20):
        assert transport.leaves(part * ledger.entries // 20, 50)
    transport.close()


def _megabytes(process):
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no RSS")


def main():
    """Yields the time to serving and the memory, with 1 M entries and with few."""
    many, few = _ledgers.large(ENTRIES), _ledgers.large(FEW)
    runs, base = [], []
    for _ in range(STARTS):
        runs.append(started(many))
        base.append(started(few))
    seconds = statistics.median(each[0] for each in runs)
    least = statistics.median(each[0] for each in base)
    yield {
        "figure": f"restart: to serving with {ENTRIES:,} entries",
        "value": round(seconds, 2),
        "unit": "s",
        "bar": BAR_SECONDS,
        "holds": seconds <= BAR_SECONDS,
        "against": f"with {FEW:,} entries, {least:.2f} s",
        "ratio": round(seconds / least, 2),
    }
    memory, floor = max(each[1] for each in runs), max(each[1] for each in base)
    yield {
        "figure": f"restart: RSS with {ENTRIES:,} entries, after reads",
        "value": round(memory),
        "unit": "MB",
        "bar": BAR_MB,
        "holds": memory <= BAR_MB,
        "against": f"with {FEW:,} entries, {floor:.0f} MB",
        "ratio": round(memory / floor, 2),
    }
