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


class Churn:
    """The changes of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = Random(f"changes {world.seed}")
        self._count = 0

    def schedule(self) -> None:
        faults = self._world.faults
        for _ in range(faults.changes):
            at = self._random.randint(200, max(201, faults.faulty_ms - 1_000))
            self._world.at(at, self._ask)

    def listed(self) -> set[int]:
        """Numbers of all organizations in the newest epoch that any node entered."""
        return {int(e.organization[1:]) for e in self._world.checker.epochs[-1].everyone()}

    def _ask(self) -> None:
        self._count += 1
        self._world.ask(f"change{self._count} epoch:{self._change()}")

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
        kinds = ["rotate", "q", "remove", "stop"]
        if outside and len(members) < MOST_MEMBERS:
            kinds += ["add"] * 3
        kind = random.choice(kinds)
        if kind == "q":
            return f"q={random.randint(len(members) // 2 + 1, len(members))}"
        if kind == "add":
            return f"add=m{random.choice(outside)}"
        return f"{kind}=m{random.choice(members)}"
