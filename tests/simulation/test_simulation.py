"""Hundreds of seeds of the simulator; a failing one prints the command that replays it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faults import of_seed
from kept_seeds import KEPT_SEEDS
from soak import TooLong, at_most, replay_command, run_seed

HERE = Path(__file__).resolve().parent
SEEDS_PER_TEST = 20
FAULTS = (
    "clog_every_ms",
    "crash",
    "duplicate",
    "fragile",
    "full_every_ms",
    "jump_every_ms",
    "jumpers",
    "loss",
    "partition_every_ms",
    "pause_every_ms",
    "replay",
    "reset_ms",
    "rotten",
    "severed",
    "slow_chance",
    "torn",
)


def check(seeds: range | tuple[int, ...]) -> None:
    for seed in seeds:
        outcome = run_seed(seed)
        assert not outcome.error, f"replay: {replay_command(seed)}\n{outcome.error}"


@pytest.mark.parametrize("first", range(0, 320, SEEDS_PER_TEST))
def test_members_agree_and_go_on_under_faults(first: int) -> None:
    check(range(first, first + SEEDS_PER_TEST))


def test_seeds_that_failed_once_pass() -> None:
    check(KEPT_SEEDS)


def test_the_seeds_cover_every_size_and_kind_of_fault() -> None:
    mixes = [of_seed(seed) for seed in range(400)]
    assert {mix.n for mix in mixes} >= set(range(1, 8))
    assert 20 < sum(mix.n >= 10 for mix in mixes) < 60
    assert max(mix.n for mix in mixes) > 20
    assert any(not mix.cheap_keys for mix in mixes)
    for fault in FAULTS:
        assert 0 < sum(bool(getattr(mix, fault)) for mix in mixes) < len(mixes), fault
    assert sum(mix.traitors > 0 for mix in mixes) > 20
    assert sum(mix.followers > 0 for mix in mixes) == 100
    assert sum(mix.false_followers > 0 for mix in mixes) > 20
    assert sum(mix.changes > 0 for mix in mixes) == 80
    assert sum(mix.changes > 0 and mix.strangers > 0 for mix in mixes) > 20
    assert sum(mix.changes > 0 and mix.traitors > 0 for mix in mixes) > 5


def test_no_seed_damages_more_members_than_a_quorum_can_spare() -> None:
    for mix in map(of_seed, range(400)):
        assert mix.traitors + mix.fragile <= mix.most_traitors or mix.traitors + mix.fragile == 0
        damaged = mix.traitors + mix.fragile + mix.rotten + mix.jumpers
        assert damaged <= mix.n - mix.q or (mix.is_safe and damaged == 0)


def test_one_seed_is_one_run() -> None:
    for seed in range(5):
        assert run_seed(seed) == run_seed(seed)


def test_a_seed_leaves_the_timer_that_it_found() -> None:
    """pytest's time limit of a test is one."""
    rung: list[int] = []
    handler = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    left, _ = signal.setitimer(signal.ITIMER_REAL, 90)
    try:
        run_seed(0)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 90
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left)


def test_a_seed_that_does_not_end_is_ended() -> None:
    with pytest.raises(TooLong), at_most(0.01):
        signal.pause()


def test_another_seed_is_another_run() -> None:
    assert run_seed(1).trace != run_seed(2).trace


def test_a_run_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    assert traces("1") == traces("4711")


def traces(hash_seed: str) -> str:
    command = [sys.executable, "soak.py", "--seeds", "0..12", "--jobs", "1", "--traces"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout.rpartition("12 seeds")[0]
