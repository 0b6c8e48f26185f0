"""Run many seeds: `python tests/simulation/soak.py --seeds 0..1000 [--jobs 2] [--steps 20000]`.
With `--ruled`, of the worlds over the real state machine (ruled_world), which are as long as they
are.

One seed is `--seeds 7`. A run is as long as its seed says, or of about so many steps. Prints each
failing seed with the command that replays it, and how often each fault happened; exits 1 if a seed
failed. A step is one turn of one member: events in, effects carried out, invariants checked.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path[1:1] = [str(HERE.parent.parent / "ledger"), str(HERE.parent / "ledger")]

from faults import Faults, lengthened, of_seed  # noqa: E402
from ruled_world import RuledWorld  # noqa: E402
from world import World  # noqa: E402

MOST_SECONDS = 100  # a seed takes a fraction of one: longer is a loop
MOST_SECONDS_OF_LONG = 600


@dataclass(frozen=True)
class Outcome:
    """What one seed came to; `error` is empty if all invariants held."""

    seed: int
    trace: str
    steps: int
    events: int
    met: Counter[str]
    error: str


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


def replay_command(seed: int, steps: int = 0, *, ruled: bool = False) -> str:
    how = (f" --steps {steps}" if steps else "") + " --ruled" * ruled
    return f"python tests/simulation/soak.py --seeds {seed}{how}  # at commit {commit()}"


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TooLong when so much CPU time is used: a busy machine ends no seed."""
    handler = signal.signal(signal.SIGPROF, _too_long)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    """A run makes many small objects and few cycles: looking for these is a tenth of it."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def run_seed(seed: int, steps: int = 0, *, ruled: bool = False) -> Outcome:
    """One run: as long as the seed says, or of about so many steps."""
    if ruled:
        return run_world(RuledWorld(seed), MOST_SECONDS)
    faults = long_faults(seed, steps) if steps else of_seed(seed)
    return run_world(World(seed, faults), MOST_SECONDS_OF_LONG if steps else MOST_SECONDS)


def run_world(world: World, seconds: float) -> Outcome:
    error = ""
    try:
        with at_most(seconds), _rarely_collected():
            world.run()
    except Exception:
        error = traceback.format_exc()
    trace = world.trace.hexdigest()
    return Outcome(world.seed, trace, world.steps, world.events, world.met, error)


def long_faults(seed: int, steps: int) -> Faults:
    """The faults of a seed, so long that they reign for so many steps."""
    ordinary = run_world(World(seed), MOST_SECONDS)
    return lengthened(of_seed(seed), max(1.0, 5 * steps / max(1, ordinary.steps)), steps)


def seeds_of(text: str) -> range:
    first, _, last = text.partition("..")
    return range(int(first), int(last or int(first) + 1))


def outcomes(seeds: range, jobs: int, steps: int, *, ruled: bool = False) -> Iterator[Outcome]:
    run: Callable[[int], Outcome] = partial(run_seed, steps=steps, ruled=ruled)
    if jobs == 1 or len(seeds) == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(run, seeds, chunksize=1 if steps else 4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0..200")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=0, help="of every seed, about")
    parser.add_argument("--minutes", type=float, default=0, help="begin no seed after so many")
    parser.add_argument("--ruled", action="store_true", help="worlds of the real state machine")
    parser.add_argument("--traces", action="store_true", help="print each seed's trace hash")
    options = parser.parse_args()
    seeds = seeds_of(options.seeds)
    started = time.perf_counter()
    failed: list[int] = []
    met: Counter[str] = Counter()
    ran = steps = events = 0
    for outcome in outcomes(seeds, options.jobs, options.steps, ruled=options.ruled):
        ran, steps, events = ran + 1, steps + outcome.steps, events + outcome.events
        met += outcome.met
        if options.traces:
            print(outcome.seed, outcome.trace)
        if outcome.error:
            failed.append(outcome.seed)
            replay = replay_command(outcome.seed, options.steps, ruled=options.ruled)
            print(f"seed {outcome.seed} failed; replay: {replay}\n{outcome.error}", flush=True)
        if options.minutes and time.perf_counter() - started > 60 * options.minutes:
            break
    took = time.perf_counter() - started
    if not options.traces:
        for name, count in sorted(met.items()):
            print(f"{count:>9}  {name}")
    print(
        f"{ran} seeds, {len(failed)} failed, {steps} steps, {events} events, {took:.1f} s,"
        f" {ran / took:.1f} seeds/s; failed: {sorted(failed)}; commit {commit()}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
