"""From an operation to row changes: the dispatch table, the author's rights, and the first rows.

Invariants:
- Every operation of `operations.OPERATIONS` has exactly one handler (a test compares the tables).
- An operation is applied only for an active identity of the entry's organization that holds one
  of the operation's roles (A1).

Left to others: shapes (`operations`), what handlers decide (`rules_*`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from tilth_ledger import (
    rules_approvals,
    rules_assets,
    rules_boards,
    rules_data,
    rules_identities,
    rules_lifecycle,
    rules_members,
    rules_objectives,
    rules_plans,
    rules_reports,
)
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.epochs import Membership, epoch_key, membership_row
from tilth_ledger.errors import Refused
from tilth_ledger.genesis import Genesis
from tilth_ledger.operations import OPERATIONS
from tilth_ledger.rows import Row, Rows, RowView, read_row

Handler = Callable[[Context, Op], None]

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        "identity.add": rules_identities.add,
        "identity.revoke": rules_identities.revoke,
        "organization.update": rules_identities.update_organization,
        "member.propose": rules_members.propose,
        "member.approve": rules_members.approve,
        "environment.add": rules_assets.add_environment,
        "image.add": rules_assets.add_image,
        "image.withdraw": rules_assets.withdraw_image,
        "algo.add": rules_assets.add_algo,
        "algo.accept": rules_assets.accept_algo,
        "algo.withdraw": rules_assets.withdraw_algo,
        "model.import": rules_assets.import_model,
        "model.widen": rules_assets.widen_model,
        "model.narrow": rules_assets.narrow_model,
        "dataset.add": rules_data.add_dataset,
        "dataset.grant": rules_data.grant,
        "dataset.withdraw": rules_data.withdraw_dataset,
        "sample.add": rules_data.add_samples,
        "sample.withdraw": rules_data.withdraw_sample,
        "sampleset.add": rules_data.add_set,
        "objective.add": rules_objectives.add,
        "objective.revise": rules_objectives.revise,
        "objective.accept": rules_objectives.accept,
        "objective.withdraw": rules_objectives.withdraw,
        "leaderboard.record": rules_boards.record,
        "plan.add": rules_plans.add,
        "plan.tasks": rules_plans.add_tasks,
        "plan.close": rules_plans.close,
        "plan.cancel": rules_lifecycle.cancel_plan,
        "task.close": rules_lifecycle.close_task,
        "task.cancel": rules_lifecycle.cancel_task,
        "task.retry": rules_lifecycle.retry_task,
        "approval.give": rules_approvals.give,
        "approval.deny": rules_approvals.deny,
        "task.doing": rules_reports.doing,
        "task.done": rules_reports.done,
        "task.failed": rules_reports.failed,
    }
)


def apply(context: Context, operation: Mapping[str, Any]) -> None:
    """Apply one well-formed operation; `Refused` names the rule it breaks."""
    name = str(operation["op"])
    needed = OPERATIONS[name].roles
    if not needed & context.roles:
        refuse(
            "A1",
            f"{name} needs a role that the author does not hold",
            found="roles " + ", ".join(sorted(context.roles)),
            expected=" or ".join(sorted(needed)),
            remedy=f"An admin of {context.organization} adds an identity with that role:"
            f" `tilth identity add --role {min(needed)}`.",
        )
    context.begin()
    HANDLERS[name](context, operation)


def identity(rows: Rows, author: str) -> RowView:
    """The row of an entry's author (A1)."""
    value = rows.get_bytes(f"identity/{author}")
    if value is None:
        refuse(
            "A1",
            "the author's key is not registered",
            found=author,
            expected="a key that an admin added with identity.add",
            remedy="Ask your organization's admin: `tilth identity add --role ROLE PUBLIC_KEY`.",
        )
    return read_row(value)


def check_author(row: RowView, organization: str, time_ms: int) -> frozenset[str]:
    """The roles of an identity's row, active and of `organization`, in ledger time (A1)."""
    if row["organization"] != organization:
        refuse(
            "A1",
            "the author belongs to another organization",
            found=f"{organization} in the entry",
            expected=row["organization"],
            remedy="Sign entries in the name of your own organization.",
        )
    expires = row.get("expires_ms")
    if row["status"] != "active" or (expires is not None and time_ms > expires):
        raise Refused(
            "A1",
            "the author's key is no longer active",
            found="revoked" if row["status"] != "active" else f"expired at {expires} ms",
            expected="an active key",
            remedy="Ask your organization's admin to add a new key.",
        )
    return frozenset(row["roles"])


def genesis_rows(genesis: Genesis) -> Iterator[tuple[str, Row]]:
    """The rows before the first block: every organization, its node's and its admin's identity, and
    who votes first."""
    first = Membership.of_genesis(genesis)
    yield epoch_key(0), membership_row(first)
    for organization in genesis.everyone():
        row = organization.as_dict()
        yield f"organization/{organization.organization}", row
        for role in ("node", "admin"):
            public = getattr(organization.keys, role)
            yield (
                f"identity/{public.key_id}",
                {
                    "organization": organization.organization,
                    "public": public.hex,
                    "roles": [role],
                    "status": "active",
                },
            )
