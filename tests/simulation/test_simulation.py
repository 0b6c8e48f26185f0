"""Hundreds of seeds of the simulator; a failing one prints the command that replays it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import chatter
import pytest
from faults import HOSTILE, of_seed
from kept_seeds import KEPT_SEEDS
from liar import LEADING
from mutants import LIAR
from schemes import SCHEMES
from soak import Outcome, TooLong, at_most, replay_command, run_seed
from world import World

HERE = Path(__file__).resolve().parent
SEEDS, SEEDS_PER_TEST = 300, 20
LONG_STEPS = 20_000
LONG_SEEDS = (100_007, 100_019, 142, 174, 215, 289, 331)
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


# So often at least each fault happens in all seeds together: none may silently be tried no more.
HAPPENS = {
    "network: loss": 1_000,
    "network: duplicate": 1_000,
    "network: reorder": 1_000,
    "network: replay": 500,
    "network: slow message": 500,
    "network: clog": 100,
    "network: reset": 100,
    "network: partition, halves": 20,
    "network: partition, one way": 10,
    "network: partition, alone": 10,
    "process: pause": 100,
    "clock: jump": 100,
    "clock: jump by up to an hour": 10,
    "crash: before the sync": 20,
    "crash: in the sync": 20,
    "crash: after the sync": 20,
    "crash: after the store": 20,
    "crash: while sending": 20,
    "disk: torn write": 3,
    "disk: full (ENOSPC)": 20,
    "disk: sync fails (EIO)": 20,
    "disk: store's transaction fails": 3,
    "disk: bit flip": 3,
    "disk: misdirected write": 1,
    "disk: stale sector": 2,
    "disk: lost end": 3,
    "disk: restored backup": 3,
    "disk: wipe": 2,
    "disk: damaged block handed on": 10,
    "disk: forgotten vote noticed": 5,
    "membership: add asked": 5,
    "membership: remove asked": 2,
    "membership: stop asked": 2,
    "membership: rotate asked": 5,
    "membership: q asked": 1,
    "membership: epoch entered": 50,
    "membership: disk lost during a change": 3,
    "membership: forgetful member's key rotated": 2,
    "leader: makes up": 10,
    **{f"liar: {said.__name__.strip('_').replace('_', ' ')}": 20 for said in chatter.TALK},
    "liar: damaged answer": 20,
    "cosigned head": 500,
}


def check(seeds: range | tuple[int, ...]) -> None:
    for seed in seeds:
        error = outcome(seed).error
        assert not error, f"replay: {replay_command(seed)}\n{error}"


@functools.cache
def outcome(seed: int) -> Outcome:
    """What a seed came to, run once."""
    return run_seed(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_members_agree_and_go_on_under_faults(first: int) -> None:
    check(range(first, first + SEEDS_PER_TEST))


@pytest.mark.timeout(900)  # some seconds of computing time, which a busy machine may not have
@pytest.mark.parametrize("seed", LONG_SEEDS)
def test_members_agree_and_go_on_under_faults_that_reign_long(seed: int) -> None:
    came_to = run_seed(seed, LONG_STEPS)
    assert not came_to.error, f"replay: {replay_command(seed, LONG_STEPS)}\n{came_to.error}"
    assert came_to.steps >= LONG_STEPS


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
        assert any(getattr(of_seed(seed), fault) for seed in LONG_SEEDS), fault
    assert sum(mix.traitors > 0 for mix in mixes) > 20
    assert sum(mix.followers > 0 for mix in mixes) == 100
    assert sum(mix.false_followers > 0 for mix in mixes) > 20
    assert sum(mix.changes > 0 for mix in mixes) == 80
    assert sum(mix.changes > 0 and mix.strangers > 0 for mix in mixes) > 20
    assert sum(mix.changes > 0 and mix.traitors > 0 for mix in mixes) > 5


@pytest.mark.parametrize("what", HAPPENS)
def test_each_fault_happens_in_the_seeds(what: str) -> None:
    met = sum((outcome(seed).met for seed in range(SEEDS)), Counter[str]())
    assert met[what] >= HAPPENS[what]


@pytest.mark.parametrize("manner", LEADING)
def test_a_liar_that_leads_in_one_manner_stops_nobody(manner: str) -> None:
    seed = 1 if manner == "equivocates" else 0  # one in which it comes to lead
    met = World(seed, replace(LIAR, manner=manner, talks=True)).run().met
    assert met[f"leader: {manner.replace('_', ' ')}"] > 0


def test_hostile_seeds_have_as_many_traitors_as_can_be_borne_and_every_scheme() -> None:
    mixes = [of_seed(seed) for seed in range(HOSTILE, HOSTILE + 100)]
    assert all(mix.traitors == min(mix.most_traitors, mix.n - mix.q) > 0 for mix in mixes)
    assert {mix.manner for mix in mixes if mix.liars} == {*SCHEMES, ""}
    assert 15 < sum(not mix.liars for mix in mixes) < 50


def test_no_seed_damages_more_members_than_a_quorum_can_spare() -> None:
    for mix in map(of_seed, range(400)):
        assert mix.traitors + mix.fragile <= mix.most_traitors or mix.traitors + mix.fragile == 0
        damaged = mix.traitors + mix.fragile + mix.rotten + mix.jumpers
        assert damaged <= mix.n - mix.q or (mix.is_safe and damaged == 0)


def test_one_seed_is_one_run() -> None:
    for seed in range(5):
        assert run_seed(seed) == run_seed(seed)


def test_a_seed_that_does_not_end_is_ended() -> None:
    def endless() -> None:
        while True:
            pass

    with pytest.raises(TooLong), at_most(0.01):
        endless()


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
