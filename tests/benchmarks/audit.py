"""How quickly a whole ledger is verified again from a node's folder: `tilth audit`.

Three members, two of whom vote; blocks of 50 entries of 10 operations, each a sample of its own.
Beside it stand entries of one operation, and what the machine allows: the time of verifying as
many signatures of authors alone, on one core. `ratio` is the share of the cores that the audit had:
what they allow is `value / ratio`.
"""

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

BAR = 10_000
BLOCK_ENTRIES = 50

sys.path.insert(0, str(Path(__file__).parents[1] / "ledger"))


def founded(folder, entries, operations):
    """A node's folder with a ledger of so many entries."""
    from audited_chain import Chain

    from tilth_node.storage.ledger_store import LedgerStore

    folder.mkdir()
    chain = Chain()
    dataset = chain.dataset("hospital-a")
    for start in range(0, entries, BLOCK_ENTRIES):
        count = min(BLOCK_ENTRIES, entries - start)
        chain.record(
            *(chain.entry("hospital-a", *samples(chain, dataset, operations)) for _ in range(count))
        )
    (folder / "genesis.json").write_bytes(chain.genesis.bytes)
    store = LedgerStore(folder / "ledger.db")
    first = chain.proposer[0].genesis_state()
    store.seed(first.changes, first.accumulator)
    for (block, certificate), state in zip(chain.blocks, chain.states, strict=True):
        store.apply([(block, state)], certificate)
    store.close()
    return chain


def samples(chain, dataset, count):
    """Operations that each register one sample."""
    return [
        {
            "op": "sample.add",
            "datasets": [dataset],
            "label": "train",
            "samples": [chain.sample("hospital-a")],
        }
        for _ in range(count)
    ]


def audited(folder):
    """Seconds of one audit, seconds of CPU of all its processes, and its report."""
    from tilth_node import auditing

    begun, used = time.perf_counter(), cpu_seconds()
    report = auditing.audit(folder)
    assert report.clean, report.findings
    return time.perf_counter() - begun, cpu_seconds() - used, report


def cpu_seconds():
    """Of this process, and of those that it started and that have ended."""
    each = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(who)[:2]) for who in each)


def signatures_per_second(chain):
    """How many authors' signatures one core verifies, alone."""
    from rules_world import named_key

    from tilth_ledger.leaf import Leaf, verify_author

    public = named_key("hospital-a person").public
    leaves = [Leaf.decode(leaf) for leaf in chain.leaves[-300:]]
    begun = time.perf_counter()
    for leaf in leaves:
        verify_author(leaf, public)
    return len(leaves) / (time.perf_counter() - begun)


def main():
    """Yields entries and operations a second, for entries of 10 operations and of one."""
    with tempfile.TemporaryDirectory() as scratch:
        chain = founded(Path(scratch) / "ten", 5_000, 10)
        seconds, used, report = audited(Path(scratch) / "ten")
        alone = signatures_per_second(chain)
        founded(Path(scratch) / "one", 4_000, 1)
        single, used_by_single, singles = audited(Path(scratch) / "one")
    cores = os.cpu_count()
    rate = report.counts.signatures / seconds
    yield {
        "figure": f"audit: entries of 10 operations, {cores} cores",
        "value": round(rate),
        "unit": "entries/s",
        "bar": BAR,
        "holds": rate >= BAR,
        "against": f"{used / report.counts.operations * 1e6:.1f} us of CPU an operation",
        "ratio": round(used / seconds / cores, 3),
    }
    yield {
        "figure": "audit: the same, operations",
        "value": round(report.counts.operations / seconds),
        "unit": "operations/s",
    }
    yield {
        "figure": "audit: entries of one operation, in one process",
        "value": round(singles.counts.signatures / single),
        "unit": "entries/s",
        "against": f"{used_by_single / singles.counts.signatures * 1e6:.0f} us of CPU an entry;"
        f" signatures of authors alone, one core, {alone:.0f}/s",
        "ratio": round(used_by_single / single / cores, 3),
    }
