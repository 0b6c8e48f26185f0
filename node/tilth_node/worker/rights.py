"""Rights once more, right before data are mounted (rules P4, P5 at the worker).

The ledger judged them when `doing` became final; what was narrowed, withdrawn or denied in the
blocks since then binds as well. The same pure rules, on the rows as this node has them now.
"""

from tilth_ledger import approvals
from tilth_ledger.certification import reaches
from tilth_ledger.context import Context
from tilth_ledger.errors import Refused
from tilth_ledger.rows import Overlay, Row
from tilth_ledger.rules_reports import judge_run
from tilth_node.worker.failure import Failed, reason_of
from tilth_node.worker.site import Site


def judge(site: Site, task: Row) -> None:
    """Raise Failed when the task must no longer begin."""
    context = Context(
        rows=Overlay(site.rows),
        limits=site.limits,
        net=site.net,
        time_ms=site.ledger_ms(),
        index=0,
        entry="",
        author=site.signer().key_id,
        organization=site.organization,
        roles=frozenset(("node",)),
    )
    try:
        _judge(context, task)
    except Refused as refusal:
        raise Failed(reason_of(refusal), str(refusal)) from refusal
    wanted = task.get("minimum_grade")
    if wanted is not None and not reaches(site.runtime.grade, wanted):
        raise Failed(
            "rights",
            f"the data owner's approval demands isolation of grade {wanted} or better",
            found=f"grade {site.runtime.grade}",
        )


def _judge(context: Context, task: Row) -> None:
    plan = context.need("plan", task["plan"])
    judge_run(context, plan, task)
    if approvals.demands(context, task):
        _check_denials(context, task)


def _check_denials(context: Context, task: Row) -> None:
    """The run is counted already, so only a denial can still stop it."""
    facts = approvals.facts_of(context, task)
    for _, row in context.rows.scan(f"approval/{task['data']['dataset']}/"):
        if row["status"] == "denied" and approvals.matches(row, facts):
            raise Refused("P5", "the data owner denied this task", found=row["key"])
