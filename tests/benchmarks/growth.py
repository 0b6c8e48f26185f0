"""What an entry costs at 1 M entries against 1,000; how much disk a ledger takes.

Cost: verifying, executing and the store's durable transaction (fsync on), as every node does them,
in blocks of 50 entries of one operation, two ledgers in turns in one process: medians of blocks.
Disk: the ledger's file against the bytes of its leaves, entries of one operation and of 50. Large
ledgers are made once and kept (see _ledgers.py); the large one grows in a copy.
"""

import gc
import shutil
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from tests.benchmarks import _ledgers

ENTRIES, FEW, BATCHED = 1_000_000, 1_000, 4_000
BLOCKS, BLOCK_ENTRIES = 80, 50
BAR, BAR_SINGLE, BAR_BATCHED = 1.2, 5, 3


def grown(growing):
    """Wall and CPU seconds of one block more."""
    leaves = growing.leaves(BLOCK_ENTRIES)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    growing.grow(leaves, verify=True)
    return time.perf_counter() - wall, time.process_time() - cpu


def opened(place):
    """A ledger that grows, its rows as ready as a node's are some seconds after its start."""
    growing = _ledgers.Growing(place)
    while not growing.store.rows.get_ready():
        pass
    return growing


def costs(scratch):
    """Medians per entry, in microseconds: wall and CPU, of many entries and of few."""
    many = opened(_ledgers.large(ENTRIES).copy(Path(scratch) / "many"))
    few_taken = []
    many_taken = []
    few = None
    for number in range(BLOCKS):
        if number % 20 == 0:  # so that it stays a ledger of about 1,000
            if few is not None:
                few.store.close()
            place = Path(scratch) / f"few-{number}"
            few = opened(_ledgers.large(FEW, progress=False).copy(place))
            grown(few)  # the first one fills caches
        many_taken.append(grown(many))
        few_taken.append(grown(few))
    few.store.close()
    many.store.close()

    def median(taken, which):
        return statistics.median(each[which] for each in taken) / BLOCK_ENTRIES * 1e6

    return [(median(many_taken, which), median(few_taken, which)) for which in (0, 1)]


def disk(ledger):
    """Bytes of the ledger's file, and of its leaves."""
    file = ledger.folder() / "ledger.db"
    with sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True) as reader:
        (leaves,) = reader.execute("SELECT sum(length(leaf)) FROM leaves").fetchone()
    return file.stat().st_size, leaves


def main():
    """Yields the costs of one entry and the disk that a ledger takes."""
    with tempfile.TemporaryDirectory(dir=_ledgers.cache().parent) as scratch:
        wall, cpu = costs(scratch)
        shutil.rmtree(Path(scratch) / "many")
    for name, (many, few) in (("time, synced", wall), ("CPU", cpu)):
        yield {
            "figure": f"growth: cost of an entry at {ENTRIES:,} entries, {name}",
            "value": round(many),
            "unit": "us",
            "bar": BAR,
            "holds": many <= BAR * few,
            "against": f"at {FEW:,} entries, {few:.0f} us",
            "ratio": round(many / few, 2),
        }
    cases = (
        ("entries of one operation", _ledgers.large(ENTRIES), BAR_SINGLE),
        ("entries of 50 operations", _ledgers.large(BATCHED, 50), BAR_BATCHED),
    )
    for name, ledger, bar in cases:
        size, leaves = disk(ledger)
        yield {
            "figure": f"growth: disk, {name}",
            "value": round(size / leaves, 2),
            "unit": "bytes for a byte of leaves",
            "bar": bar,
            "holds": size <= bar * leaves,
            "against": f"{leaves >> 20} MB of leaves in {ledger.entries:,} entries",
            "ratio": round(size / leaves, 2),
        }
