"""Which of this node's `todo` tasks begin now. Pure: rows in, keys out.

Invariants
- Never more than `slots` tasks at a time.
- Fair over plans: a free slot goes to the plan with the fewest running tasks, the one that came
  first among equals. A plan of 10,000 tasks does not starve a plan of one.
- Within a plan the lowest rank first: what others wait for is done before what only follows.
- Tasks of one plan that continue the same local folder run one after the other.

Leaves to others: whether a task may run (the ledger, when `doing` becomes final), and running it
(`tilth_node.worker.worker`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task of this node that could begin, or that runs; `folder` names the local folder that it
    continues ("" when it has none)."""

    task: str
    plan: str
    rank: int
    arrived: int  # order in which this node saw the task
    folder: str = ""


def choose(todo: Iterable[Candidate], running: Iterable[Candidate], slots: int) -> list[Candidate]:
    """The candidates to begin, in order."""
    busy = list(running)
    load = Counter(candidate.plan for candidate in busy)
    folders = {(candidate.plan, candidate.folder) for candidate in busy if candidate.folder}
    waiting = sorted(todo, key=lambda candidate: (candidate.rank, candidate.arrived))
    first_seen: dict[str, int] = {}
    for candidate in waiting:
        seen = first_seen.get(candidate.plan, candidate.arrived)
        first_seen[candidate.plan] = min(seen, candidate.arrived)
    chosen: list[Candidate] = []
    while len(busy) + len(chosen) < slots:
        free = [c for c in waiting if not c.folder or (c.plan, c.folder) not in folders]
        if not free:
            break
        best = min(free, key=lambda c: (load[c.plan], first_seen[c.plan], c.rank, c.arrived))
        chosen.append(best)
        waiting.remove(best)
        load[best.plan] += 1
        folders.add((best.plan, best.folder))
    return chosen
