"""A dry run of the rules: what would be refused now, with nothing recorded.

Left to others: the rules (state), whether the caller is who it says (the node).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilth_ledger import state
from tilth_ledger.context import Context
from tilth_ledger.errors import Refused, TilthError
from tilth_ledger.execution import Executor, State
from tilth_ledger.rows import Overlay


def check_operations(
    executor: Executor,
    parent: State,
    author: str,
    organization: str,
    given: Sequence[Mapping[str, Any]],
    time_ms: int,
) -> list[TilthError]:
    """Dry run of operations on `parent` without an entry: everything that would be refused, one
    after the other; an empty list means that they would be accepted now."""
    try:
        row = state.identity(parent.rows, author)
        roles = state.check_author(row, organization, time_ms)
    except Refused as refusal:
        return [refusal]
    rules, problems = executor.rules(parent), list[TilthError]()
    rows = Overlay(parent.rows)
    for operation in given:
        attempt = Overlay(rows)
        context = Context(
            rows=attempt,
            limits=executor.limits,
            net=executor.genesis.net,
            time_ms=time_ms,
            index=parent.size,
            entry="0" * 64,
            author=author,
            organization=organization,
            roles=roles,
            problems=problems,
        )
        try:
            rules.check(operation)
            rules.apply(context, operation)
        except TilthError as error:
            problems.append(error)
        else:
            rows.apply(attempt.changes)
    return problems
