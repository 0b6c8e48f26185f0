"""Rule R4: the graph of a plan's tasks: ranks, cycles, and whose local folder a task continues.

Invariants:
- Rank = 1 + the highest rank among parents in the same plan; a task without such parents has 1.
- The order of `ranks` is that of ranks, then of the given list: never that of a set.
- A task continues the local folder of its nearest ancestor in the same lane (same dataset, or the
  same aggregator); two that are equally near are refused unless the task says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilth_ledger.context import refuse

Near = dict[str, tuple[int, str]]  # lane -> (distance, task; "" when two are equally near)


def ranks(parents: Mapping[str, Sequence[str]], known: Mapping[str, int]) -> dict[str, int]:
    """Ranks of new tasks, parents first; `known` holds the ranks of tasks registered earlier."""
    result: dict[str, int] = {}
    waiting = {task: sum(p not in known for p in {*above}) for task, above in parents.items()}
    children: dict[str, list[str]] = {}
    for task, above in parents.items():
        for parent in sorted({*above}):
            if parent not in known:
                children.setdefault(parent, []).append(task)
    ready = [task for task, missing in waiting.items() if missing == 0]
    for task in ready:  # grows while it is walked
        heights = (known[p] if p in known else result[p] for p in parents[task])
        result[task] = 1 + max(heights, default=0)
        for child in children.get(task, ()):
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if len(result) != len(parents):
        _refuse_cycle(parents, result)
    return result


def _refuse_cycle(parents: Mapping[str, Sequence[str]], ranked: Mapping[str, int]) -> None:
    """Name the tasks of one cycle: walking up among unranked tasks must come back somewhere."""
    path: list[str] = []
    task = next(task for task in parents if task not in ranked)
    while task not in path:
        path.append(task)
        task = next(p for p in sorted({*parents[task]}) if p in parents and p not in ranked)
    refuse(
        "R4",
        "the plan's tasks form a cycle",
        found=" <- ".join([*path[path.index(task) :], task]),
        expected="tasks whose inputs come from earlier tasks",
        remedy="Remove one of the inputs that close the cycle.",
    )


def nearest(parents: Sequence[tuple[str, str, Near]]) -> Near:
    """The nearest ancestor in each lane, from parents as (task, lane, their own nearest)."""
    result: Near = {}
    for task, lane, above in parents:
        candidates = {name: (distance + 1, near) for name, (distance, near) in above.items()}
        if lane:
            candidates[lane] = (1, task)
        for name, found in candidates.items():
            best = result.get(name)
            if best is None or found[0] < best[0]:
                result[name] = found
            elif found[0] == best[0] and found[1] != best[1]:
                result[name] = (best[0], "")
    return result
