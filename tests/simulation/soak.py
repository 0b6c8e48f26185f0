"""Run many seeds: `python tests/simulation/soak.py --seeds 0..1000 [--jobs 2]`.

One seed is `--seeds 7`. Prints each failing seed with the command that replays it; exits 1 if there
was one.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent.parent / "ledger"))

from world import World  # noqa: E402

MOST_SECONDS = 60  # a seed takes a fraction of one: longer is a loop


class TooLong(Exception):
    """A seed did not end."""


def _too_long(*_: object) -> None:
    raise TooLong


def commit() -> str:
    """The code that ran: a seed is a run of it, and of no other."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    asked = [git, "-C", str(HERE), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() or "unknown"


def replay_command(seed: int) -> str:
    return f"python tests/simulation/soak.py --seeds {seed}  # at commit {commit()}"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLong when the time is over; whose timer ran before (pytest's) runs on after."""
    handler = signal.signal(signal.SIGALRM, _too_long)
    began = time.monotonic()
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            # 0 would switch it off: what is overdue rings at once.
            due = max(left - (time.monotonic() - began), 1e-3)
            signal.setitimer(signal.ITIMER_REAL, due, interval)


def run_seed(seed: int) -> tuple[int, str, int, str]:
    """Seed, trace, steps, and what went wrong."""
    world = World(seed)
    try:
        with at_most(MOST_SECONDS):
            world.run()
    except Exception:
        return seed, world.trace.hexdigest(), world.steps, traceback.format_exc()
    return seed, world.trace.hexdigest(), world.steps, ""


def seeds_of(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or int(first) + 1))


def outcomes(seeds: range, jobs: int) -> Iterator[tuple[int, str, int, str]]:
    if jobs == 1 or len(seeds) == 1:
        yield from map(run_seed, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run_seed, seeds, chunksize=4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0..200")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--traces", action="store_true", help="print each seed's trace hash")
    options = parser.parse_args()
    seeds = seeds_of(options.seeds)
    started = time.perf_counter()
    failed, steps = [], 0
    for seed, trace, count, error in outcomes(seeds, options.jobs):
        steps += count
        if options.traces:
            print(seed, trace)
        if error:
            failed.append(seed)
            print(f"seed {seed} failed; replay: {replay_command(seed)}\n{error}", flush=True)
    took = time.perf_counter() - started
    print(
        f"{len(seeds)} seeds, {len(failed)} failed, {steps} steps, {took:.1f} s,"
        f" {len(seeds) / took:.1f} seeds/s; failed: {sorted(failed)}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
