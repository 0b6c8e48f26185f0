"""How long one client waits until its entry is final on three members, with real syncs.

One client, one entry at a time, all processes on this machine. Beside it stand what the machine
allows: three syncs of the disk (leader, follower, finality), and the same on a ledger of one.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

BAR_MS = 4
BAR_P99_MS = 15
WARM_UP = 50
ENTRIES = 500

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def sync_ms(folder):
    """The median of appending 400 bytes and one fdatasync."""
    with open(folder / "sync", "ab", buffering=0) as file:
        times = []
        for _ in range(300):
            start = time.perf_counter()
            file.write(bytes(400))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - start) * 1000)
    return statistics.median(times)


def finality_ms(folder, members):
    """Milliseconds of each entry: from submitting signed bytes to the receipt."""
    from network import Network, new_identity

    folder.mkdir()
    with Network(folder, members) as network:
        network.start()
        client = network.transport(0)
        entries = [network.entry(0, [new_identity()[1]]) for _ in range(WARM_UP + ENTRIES)]
        times = []
        for entry in entries:
            start = time.perf_counter()
            client.submit(entry)
            times.append((time.perf_counter() - start) * 1000)
    return times[WARM_UP:]


def main():
    """Yields p50 and p99 on three members, and p50 on one."""
    with tempfile.TemporaryDirectory() as scratch:
        sync = sync_ms(Path(scratch))
        three = finality_ms(Path(scratch) / "three", 3)
        one = finality_ms(Path(scratch) / "one", 1)
    floor = 3 * sync
    p50 = statistics.median(three)
    yield {
        "figure": "finality: one client's entry, 3 members, fsync on, p50",
        "value": round(p50, 2),
        "unit": "ms",
        "bar": BAR_MS,
        "holds": p50 <= BAR_MS,
        "against": f"three syncs of this disk, {floor:.2f} ms",
        "ratio": round(p50 / floor, 1),
    }
    p99 = percentile(three, 0.99)
    yield {
        "figure": "finality: the same, p99",
        "value": round(p99, 2),
        "unit": "ms",
        "bar": BAR_P99_MS,
        "holds": p99 <= BAR_P99_MS,
    }
    alone = statistics.median(one)
    yield {
        "figure": "finality: 1 member, p50",
        "value": round(alone, 2),
        "unit": "ms",
        "against": f"one sync of this disk, {sync:.2f} ms",
        "ratio": round(alone / sync, 1),
    }
