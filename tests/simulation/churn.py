"""Changes of who votes, while the faults reign: members added, removed, stopped, rotated; other q.

Changes are asked for as any client does, and several may be under way: each is judged by the ledger
when its turn comes. Where somebody lies, they keep to what the members may bear then.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from world import World

MOST_MEMBERS = 7
LEAST_WITH_FRAGILE = 4
MOMENT_MS = 5_000


class Churn:
    """The changes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"changes {world.seed}")
        self._count = 0
        self._until = 0  # a change was asked for a moment ago
        self._cures: set[int] = set()

    def schedule(self) -> None:
        faults = self._world.faults
        for _ in range(faults.changes):
            at = self._random.randint(200, max(201, faults.faulty_ms - 1_000))
            self._world.at(at, self._ask)

    def listed(self) -> set[int]:
        """Numbers of all organizations in the newest epoch that any node entered."""
        return {int(e.organization[1:]) for e in self._world.checker.epochs[-1].everyone()}

    @property
    def is_under_way(self) -> bool:
        """Whether a change was asked for within the last seconds."""
        return self._world.now < self._until

    def cure(self, number: int) -> None:
        """A member forgot a vote, and its operator replaces its key, where keys are replaced."""
        if self._world.faults.changes and number not in self._cures:
            self._cures.add(number)
            self._world.at(self._random.randint(0, 3_000), self._rotate, number)

    def _rotate(self, number: int) -> None:
        members = self._world.checker.epochs[-1].members
        if any(each.organization == f"m{number}" for each in members):
            self._world.met["membership: forgetful member's key rotated"] += 1
            self._request(f"rotate=m{number}{self._quorum}")

    def _ask(self) -> None:
        change = self._change()
        self._world.met[f"membership: {change.partition('=')[0]} asked"] += 1
        self._request(change)

    def _request(self, change: str) -> None:
        self._count += 1
        self._until = self._world.now + MOMENT_MS
        self._world.clients.ask(f"change{self._count} epoch:{change}")

    @property
    def _quorum(self) -> str:
        """Where a member may forget, one may always be away, and sign anything."""
        return ";q=spare" if self._world.machines.fragile else ""

    def _change(self) -> str:
        world, random = self._world, self._random
        epoch = world.checker.epochs[-1]
        members = [int(each.organization[1:]) for each in epoch.members]
        traitors = [number for number in members if number not in world.checker.honest]
        if traitors:
            return random.choice(("remove", "stop")) + f"=m{traitors[0]}"
        outside = [
            number
            for number in range(len(world.instances))
            if number not in members and number not in world.false
        ]
        fragile = bool(world.machines.fragile)
        kinds = ["rotate"] if fragile else ["rotate", "q", "remove", "stop"]
        if fragile and len(members) > LEAST_WITH_FRAGILE:
            kinds += ["remove", "stop"]
        if outside and len(members) < MOST_MEMBERS:
            kinds += ["add"] * 3
        kind = random.choice(kinds)
        if kind == "q":
            return f"q={random.randint(len(members) // 2 + 1, len(members))}"
        if kind == "add":
            return f"add=m{random.choice(outside)}{self._quorum}"
        return f"{kind}=m{random.choice(members)}{self._quorum}"
