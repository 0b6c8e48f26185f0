"""Warm runners: isolations that ended a step cleanly and wait for the next of the same key.

Invariants
- Keys are equal only when plan, code, environment, step kind, sample set and all mounts are: no
  two owners' codes, and neither train and predict, ever share an isolation.
- One isolation runs one step at a time; at most `most` are idle, the one longest unused ends first.
"""

from collections import OrderedDict

from tilth_node.runtimes.isolated import Isolated

Key = tuple[object, ...]


class Pool:
    """The idle isolations."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: OrderedDict[tuple[Key, int], Isolated] = OrderedDict()

    def take(self, key: Key) -> Isolated | None:
        """The isolation of that key that was used last, if one is idle."""
        for held in reversed(self._idle):
            if held[0] == key:
                return self._idle.pop(held)
        return None

    def give(self, key: Key, isolation: Isolated) -> list[Isolated]:
        """Keep an isolation for later; returns those that must be ended for it."""
        self._idle[(key, isolation.launcher_pid)] = isolation
        return [self._idle.popitem(last=False)[1] for _ in range(len(self._idle) - self._most)]

    def drop(self, plan: str) -> list[Isolated]:
        """All isolations of a plan, which will not be needed again."""
        keys = [held for held in self._idle if held[0] and held[0][0] == plan]
        return [self._idle.pop(held) for held in keys]

    def clear(self) -> list[Isolated]:
        """All of them."""
        isolations = list(self._idle.values())
        self._idle.clear()
        return isolations
