"""How quickly a whole ledger is verified again from a node's folder: `tilth audit`.

Three members, two of whom vote; blocks of 50 entries of 10 operations, each a sample of its own.
Beside it stand entries of one operation, and what the machine allows: the time of verifying as
many signatures of authors alone, on one core.
"""

import os
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
    """Seconds of one audit, and its report."""
    from tilth_node import auditing

    begun = time.perf_counter()
    report = auditing.audit(folder)
    assert report.clean, report.findings
    return time.perf_counter() - begun, report


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
    """Yields operations and entries a second, for entries of 10 operations and of one."""
    with tempfile.TemporaryDirectory() as scratch:
        chain = founded(Path(scratch) / "ten", 2_000, 10)
        seconds, report = audited(Path(scratch) / "ten")
        alone = signatures_per_second(chain)
        founded(Path(scratch) / "one", 4_000, 1)
        single, singles = audited(Path(scratch) / "one")
    rate = report.counts.operations / seconds
    yield {
        "figure": f"audit: operations, 10 to an entry, {os.cpu_count()} cores",
        "value": round(rate),
        "unit": "operations/s",
        "bar": BAR,
        "holds": rate >= BAR,
    }
    entries = report.counts.signatures / seconds
    yield {
        "figure": "audit: the same, entries",
        "value": round(entries),
        "unit": "entries/s",
        "against": f"signatures of authors alone, one core, {alone:.0f}/s",
        "ratio": round(entries / alone, 3),
    }
    yield {
        "figure": "audit: entries of one operation",
        "value": round(singles.counts.signatures / single),
        "unit": "entries/s",
        "against": f"signatures of authors alone, one core, {alone:.0f}/s",
        "ratio": round(singles.counts.signatures / single / alone, 3),
    }
