"""Which faults one seed gets: a swarm, so that each run stresses another mix."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from manners import MANNERS
from number_ledger import spare_quorum
from schemes import SCHEMES

HOSTILE = 100_000
HOSTILE_SIZES = ((4, 3), (4, 3), (4, 3), (5, 4), (6, 4), (7, 5))


@dataclass(frozen=True)
class Faults:
    """One run's network, machines and load. Times in ms, chances from 0 to 1."""

    n: int
    q: int
    cheap_keys: bool
    wire: bool  # encode and decode every message
    delta_ms: int
    delay: tuple[int, int]
    slow_chance: float  # of a message taking up to `slow_ms`
    slow_ms: int
    loss: float
    duplicate: float
    fifo: bool
    partition_every_ms: int  # 0: none
    crash: float  # per step that has effects
    down_ms: tuple[int, int]
    torn: bool
    batch_ms: int
    skew_ms: int
    leaves: int
    gap_ms: int  # between leaves of a burst
    conditional: float
    faulty_ms: int
    traitors: int
    liars: bool  # traitors lie; else they are twins: two instances with one key
    reset_ms: int  # mean time between connection resets; 0: none
    compact_bytes: int
    severed: bool = False  # two members never have a link, not even after the healing
    followers: int = 0  # organizations without a vote
    false_followers: int = 0  # and those that lie
    changes: int = 0  # of who votes
    strangers: int = 0  # nodes of organizations that genesis does not list
    replay: float = 0.0  # of a message being heard once more, much later
    clog_every_ms: int = 0  # a link that holds everything back for a while; 0: none
    pause_every_ms: int = 0  # a process that stands still while its clock goes on
    pause_ms: tuple[int, int] = (1, 1)
    jump_every_ms: int = 0  # a wall clock that is set, by seconds
    jumpers: int = 0  # members whose wall clock is set by up to an hour
    full_every_ms: int = 0  # a disk that takes nothing for a while, or fails a sync
    fragile: int = 0  # members whose disk loses what it promised
    most_steps: int = 0  # the time of faults is over then; 0: no bound
    bursts: int = 1  # of so many leaves, evenly over the time of faults
    losses: int = 3  # of each of those, at most
    rotten: int = 0  # members whose stored final blocks are damaged
    cosigns: bool = False
    manner: str = ""  # of leading, of a liar; empty: with what it makes up
    talks: bool = False  # liars say more than votes and blocks
    acts: int = 1_500  # of each liar, while faults reign

    @property
    def most_traitors(self) -> int:
        """So many members may sign whatever they like."""
        return 2 * self.q - self.n - 1


def crash_quorum(n: int) -> int:
    return n // 2 + 1


def byzantine_quorum(n: int) -> int:
    return n - (n - 1) // 3


def of_seed(seed: int) -> Faults:
    """The faults of a seed. Those from HOSTILE on are made to hurt; the others are as they were."""
    return _hostile(seed) if seed >= HOSTILE else _ordinary(seed)


def _hostile(seed: int) -> Faults:
    """Traitors always, as many as the quorum bears: liars with a scheme, or twins; a network in
    which views end by patience; members that crash."""
    random = Random(f"hostile {seed}")
    n, q = random.choice(HOSTILE_SIZES)
    return replace(
        _ordinary(seed),
        n=n,
        q=q,
        traitors=min(2 * q - n - 1, n - q),
        liars=random.random() < 0.7,
        manner=random.choice((*SCHEMES, "")),
        talks=random.random() < 0.2,
        delta_ms=random.choice((100, 100, 300)),
        delay=random.choice(((1, 40), (1, 40), (20, 200))),
        loss=random.choice((0.0, 0.1, 0.3)),
        crash=random.choice((0.0, 0.01, 0.05)),
        down_ms=random.choice(((1, 50), (100, 2_000))),
        gap_ms=random.choice((20, 200)),
        changes=0,
        severed=False,
        fragile=0,
        rotten=0,
        jumpers=0,
        skew_ms=random.choice((0, 50)),
        faulty_ms=random.choice((3_000, 10_000)),
    )


def _ordinary(seed: int) -> Faults:
    network = _of_network(seed)
    mix = _with_machines(seed, _small(network) if network.n >= 10 else network)
    return _with_manners(seed, mix) if mix.traitors and mix.liars else mix


def _of_network(seed: int) -> Faults:
    random = Random(f"faults {seed}")
    n = random.choice((1, 2, 3, 3, 3, 4, 4, 7))
    n = _other_size(seed) or n
    q = crash_quorum(n)
    if n in (5, 6) or n >= 10:
        q = Random(f"quorum {seed}").choice((q, byzantine_quorum(n)))
    if n == 7 and random.random() < 0.5:
        q = 5
    if n == 3 and random.random() < 0.15:
        q = 3
    most_traitors = max(0, min(2 * q - n - 1, n - q))
    traitors = random.randint(0, most_traitors) if random.random() < 0.5 else 0

    followers, false_followers = _followers(seed)

    def sometimes(chance: float, value: float) -> float:
        return value if random.random() < chance else 0.0

    drawn = Faults(
        n=n,
        q=q,
        cheap_keys=random.random() > 0.05,
        wire=random.random() < 0.15,
        delta_ms=random.choice((100, 300, 300, 1500)),
        delay=random.choice(((0, 1), (1, 5), (1, 40), (20, 200), (1, 800))),
        slow_chance=sometimes(0.4, random.uniform(0.001, 0.1)),
        slow_ms=random.choice((500, 3_000, 20_000)),
        loss=sometimes(0.6, random.uniform(0.0, 0.3)),
        duplicate=sometimes(0.4, random.uniform(0.0, 0.5)),
        fifo=random.random() < 0.3,
        partition_every_ms=int(sometimes(0.5, random.choice((500, 3_000, 10_000)))),
        crash=sometimes(0.7, random.choice((0.002, 0.01, 0.05))),
        down_ms=random.choice(((1, 50), (100, 2_000), (1_000, 15_000))),
        torn=random.random() < 0.7,
        batch_ms=random.choice((0, 0, 1, 5)),
        skew_ms=random.choice((0, 0, 50, 4_000)),
        leaves=random.choice((5, 20, 60)),
        gap_ms=random.choice((1, 20, 200, 1_500)),
        conditional=sometimes(0.4, random.uniform(0.0, 0.5)),
        faulty_ms=random.choice((3_000, 10_000, 30_000)),
        traitors=traitors,
        liars=random.random() < 0.6,
        reset_ms=int(sometimes(0.3, random.choice((300, 2_000, 8_000)))),
        compact_bytes=random.choice((600, 4_000, 1 << 20)),
        severed=random.random() < 0.2 and n >= 3 and q < n and traitors == 0,
        followers=followers,
        false_followers=false_followers,
    )
    return _with_changes(seed, drawn)


def _followers(seed: int) -> tuple[int, int]:
    """Honest and lying followers: one seed of four has them, the others are as they were."""
    if seed % 4 != 3:
        return 0, 0
    random = Random(f"followers {seed}")
    return random.choice((1, 2)), random.choice((0, 0, 1))


def _with_changes(seed: int, drawn: Faults) -> Faults:
    """In one seed of five who votes changes; the others are as they were."""
    if seed % 5 != 2:
        return drawn
    random = Random(f"changes {seed}")
    changes, strangers = random.randint(1, 6), random.choice((0, 1, 1, 2))
    if drawn.traitors:  # one that is voted out; there is nobody to spare for more
        return replace(drawn, changes=1, strangers=strangers, traitors=1, severed=False)
    return replace(drawn, changes=changes, strangers=strangers, severed=False)


def lengthened(mix: Faults, times: float, steps: int) -> Faults:
    """The same for so many times as long, or until so many steps were taken: as much load and as
    many changes in every second."""
    return replace(
        mix,
        faulty_ms=round(mix.faulty_ms * times),
        bursts=round(mix.bursts * times),
        changes=round(mix.changes * times),
        losses=round(mix.losses * times),
        acts=round(mix.acts * times),
        most_steps=steps,
    )


def _with_manners(seed: int, mix: Faults) -> Faults:
    """How the liars of a seed lie."""
    random = Random(f"manners {seed}")
    return replace(mix, manner=random.choice(("", *MANNERS)), talks=random.random() < 0.6)


def _other_size(seed: int) -> int:
    """Large for one seed of ten, 5 or 6 for another; else 0."""
    random = Random(f"size {seed}")
    kind = random.random()
    if kind < 0.1:
        return min(random.randint(10, 30), random.randint(10, 30))
    return random.choice((5, 6)) if kind < 0.2 else 0


def _small(mix: Faults) -> Faults:
    """With many members every message is hundreds: few leaves, and many messages to a turn."""
    return replace(
        mix,
        leaves=5,
        faulty_ms=3_000,
        batch_ms=20,
        crash=mix.crash / 5,
        partition_every_ms=mix.partition_every_ms and 3_000,
        delta_ms=max(mix.delta_ms, 300),
        reset_ms=0,
        cheap_keys=True,
        traitors=min(mix.traitors, 2),
        compact_bytes=1 << 20,
    )


def _with_machines(seed: int, mix: Faults) -> Faults:
    """What happens to clocks, processes and disks; at most n - q members are ever damaged."""
    random = Random(f"machines {seed}")

    def sometimes(chance: float, value: int) -> int:
        return value if random.random() < chance else 0

    if mix.changes and not mix.traitors and random.random() < 0.5:
        n = min(max(mix.n, 4), 7)  # a disk forgets while who votes changes
        mix = replace(mix, n=n, q=spare_quorum(n), fragile=1, severed=False)
    spare = mix.n - mix.q - mix.traitors
    if mix.changes:
        spare = 0  # who votes is another one tomorrow
    room = min(spare, mix.most_traitors - mix.traitors) if not mix.severed else 0
    fragile = random.randint(0, room) if room > 0 and random.random() < 0.6 else mix.fragile
    spare = max(0, spare - fragile)
    rotten = random.randint(0, spare) if spare > 0 and random.random() < 0.3 else 0
    rotten *= not mix.severed  # who lacks a link needs every other member's blocks
    spare -= rotten
    jumpers = random.randint(0, spare) if spare > 0 and random.random() < 0.3 else 0
    return replace(
        mix,
        replay=random.uniform(0.0, 0.5) if random.random() < 0.25 else 0.0,
        clog_every_ms=sometimes(0.25, random.choice((500, 3_000))),
        pause_every_ms=sometimes(0.35, random.choice((300, 2_000, 10_000))),
        pause_ms=random.choice(((1, 50), (50, 2_000), (1_000, 20_000))),
        jump_every_ms=sometimes(0.3, random.choice((500, 3_000))),
        jumpers=jumpers,
        full_every_ms=sometimes(0.25, random.choice((1_000, 5_000))),
        fragile=fragile,
        rotten=rotten,
        cosigns=True,
    )
