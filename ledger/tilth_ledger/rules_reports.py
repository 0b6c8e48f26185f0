"""Rules about what a worker reports: doing, done, failed (L1, R2, P4, P5, T7, T8, B3).

Invariants:
- Only the worker reports, only along the table; a task has one `done`, ever.
- Rights, approval, limits and withdrawal are judged when it begins, in one order for all (P4).
- A test's attempt is on the ledger when it begins, so before its score is known (B3).
- A `done` stands on a receipt that `receipts` accepts; a test's must be full.

Left to others: what a receipt states (`receipts`), what it certifies (`certification`), whether
the worker tells the truth (attributable by its key; re-runs).
"""

from __future__ import annotations

from tilth_ledger import approvals, certification, grants, lifecycle, receipts, rules_tasks
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.kinds import outputs_of
from tilth_ledger.lineage import Lineage
from tilth_ledger.registration import as_lineage, lineage_of, narrowed
from tilth_ledger.rows import Row, RowView
from tilth_ledger.transitions import effective_state, move


def judge_run(context: Context, plan: Row, task: Row) -> None:
    """Refuse a run that lacks a right now; the ledger asks before `doing`, the worker before it
    mounts anything (P4)."""
    inputs: dict[str, tuple[Lineage | RowView, bool]] = {}
    for edge, model in present_inputs(context, task):
        outside = "model" in edge or model.get("plan") != task["plan"]
        inputs[edge["name"]] = (model, outside)
    rules_tasks.judge_rights(context, plan, task, inputs)
    rules_tasks.judge_probe(context, plan, task)


def doing(context: Context, op: Op) -> None:
    task, plan = _reported(context, op)
    _expect(context, task, plan, ("todo",))
    _expect_attempt(task, op["attempt"], task["attempt"] + 1)
    judge_run(context, plan, task)
    grade = approvals.consume(context, task)
    move(task, "doing")
    task |= {"attempt": op["attempt"], "stops": plan["stops"]}
    if grade is not None:
        task["minimum_grade"] = grade
    lifecycle.save(context, task)
    if task["kind"] == "test":
        certification.record_attempts(context, plan, task)


def present_inputs(context: Context, task: Row) -> list[tuple[Op, RowView]]:
    """The edges whose models are there, with the models' rows."""
    found = []
    for edge in task["inputs"]:
        if "model" in edge:
            found.append((edge, context.usable("model", edge["model"])))
        elif edge["name"] not in task["skipped"]:
            found.append((edge, context.need("model", f"{edge['task']}/{edge['output']}")))
    return found


def _reported(context: Context, op: Op) -> tuple[Row, Row]:
    task = context.need("task", op["task"])
    if task["worker"] != context.organization:
        refuse(
            "R2" if "data" in task else "L1",
            "only its worker executes a task and reports on it",
            found=context.organization,
            expected=task["worker"],
            remedy="Nothing to do: the task belongs to another node.",
        )
    return task, context.need("plan", task["plan"])


def _expect(context: Context, task: Row, plan: Row, states: tuple[str, ...]) -> None:
    state = effective_state(task, plan, context.time_ms)
    if plan["status"] == "unsealed":
        state = "inert: its plan is not sealed"
    if state not in states:
        refuse(
            "L3" if state == "canceled" else "L1",
            "the task is not in a state that allows this report",
            found=f"{task['key']} is {state}",
            expected=" or ".join(states),
            remedy="Stop its run, if one is left; the ledger has decided otherwise.",
        )


def _expect_attempt(task: Row, found: int, expected: int) -> None:
    if found != expected:
        refuse(
            "L1",
            "the report is about another attempt",
            found=f"attempt {found} of {task['key']}",
            expected=f"attempt {expected}",
            remedy="Read the task's row again.",
        )


def failed(context: Context, op: Op) -> None:
    task, plan = _reported(context, op)
    _expect(context, task, plan, ("todo", "doing"))
    running = effective_state(task, plan) == "doing"
    _expect_attempt(task, op["attempt"], task["attempt"] + (0 if running else 1))
    task["attempt"] = op["attempt"]
    if "log" in op:
        _name_blob(context, op["log"], "log", task["key"])
    lifecycle.fail(context, task, op["reason"], op.get("log"))


def done(context: Context, op: Op) -> None:
    task, plan = _reported(context, op)
    _expect(context, task, plan, ("doing",))
    _expect_attempt(task, op["attempt"], task["attempt"])
    present = present_inputs(context, task)
    receipts.check(context, task, op["receipt"], present)
    _check_outputs(context, task, op)
    _check_report(context, task, op)
    move(task, "done")
    task |= {field: op[field] for field in ("receipt", "score", "report", "details") if field in op}
    task["work_key"] = receipts.work_key(context, task, present)
    context.rows.put(f"same-work/{task['work_key']}/{task['key']}", {})
    _write_models(context, task, op, present)
    _write_blobs(context, task, op)
    if task["kind"] == "test":
        certification.certify(context, plan, task, present)
    lifecycle.save(context, task)
    lifecycle.count(context, task["plan"], "done", 1)
    lifecycle.parent_done(context, task, plan)


def _check_outputs(context: Context, task: Row, op: Op) -> None:
    algo = context.rows.get(f"algo/{task['algo']}") if isinstance(task["algo"], str) else None
    made = {*outputs_of(task["kind"], algo)}
    tested = task["kind"] in ("test", "predict")
    stated = {*op["outputs"]} - ({"predictions"} if tested else set())
    if stated != made:
        refuse(
            "L1",
            "the outputs are not those of the task",
            found=", ".join(sorted(stated)) or "none",
            expected=", ".join(sorted(made)) or "none, or predictions",
            remedy="Report the declared outputs, or failed with missing_output.",
        )
    if ("score" in op) != (task["kind"] == "test"):
        refuse(
            "L1",
            "a done test has a score, and nothing else has",
            found="a score" if "score" in op else "no score",
            expected="a score" if task["kind"] == "test" else "no score",
            remedy='Report a test without a finite score as failed with reason "score".',
        )
    _check_sizes(context, task, op)


def _check_sizes(context: Context, task: Row, op: Op) -> None:
    if "data" not in task:
        return
    limits = context.need("dataset", task["data"]["dataset"])["limits"]
    sizes = [(n, f["size"], limits["model_bytes"]) for n, f in sorted(op["outputs"].items())]
    sizes += [("report", op["report"]["size"], limits["report_bytes"])] if "report" in op else []
    for name, size, most in sizes:
        if size > most:
            refuse(
                "P6",
                f"the {name} is larger than the dataset lets leave",
                found=f"{size} bytes",
                expected=f"at most {most}",
                remedy="Report the task as failed with too_large; the dataset's owner sets limits.",
            )


def _check_report(context: Context, task: Row, op: Op) -> None:
    """A count on the ledger is read by all: the dataset's owner must have granted that."""
    if "count" not in op.get("report", {}) or "data" not in task:
        return
    granted = context.rights.dataset(task["data"]["dataset"], "report", task["plan"])
    if granted is not None:
        refuse(
            "P6",
            "the count may not stand on the ledger",
            found="report.count",
            expected="only where the right `report` is public",
            remedy="Leave the count in report.json; it goes to those with the right.",
        )


def _write_models(context: Context, task: Row, op: Op, present: list[tuple[Op, RowView]]) -> None:
    if task["kind"] in ("test", "predict"):
        return
    lineage = lineage_of(context, task, [as_lineage(model) for _, model in present])
    for name, file in sorted(op["outputs"].items()):
        own = narrowed(task, lineage, name)
        row = {
            **file,
            "owner": task["owner"],
            "worker": task["worker"],
            "plan": task["plan"],
            "status": "active",
            "parties": sorted({dataset.partition("/")[0] for dataset, _ in own.sources}),
            "use": grants.write(context.rights.use(own)),
            "download": grants.write(context.rights.download(own)),
            **own.write(),
        }
        context.rows.put(f"model/{task['key']}/{name}", row)
        context.rows.put(f"blob/{file['digest']}/model/{task['key']}", {"output": name})


def _write_blobs(context: Context, task: Row, op: Op) -> None:
    named = {what: op[what] for what in ("report", "details") if what in op}
    if "predictions" in op["outputs"]:
        named["predictions"] = op["outputs"]["predictions"]
    for what, file in named.items():
        _name_blob(context, file, what, task["key"])
    if "log" in op["receipt"]:
        _name_blob(context, {"digest": op["receipt"]["log"]}, "log", task["key"])


def _name_blob(context: Context, file: Op, what: str, key: str) -> None:
    context.rows.put(f"blob/{file['digest']}/{what}/{key}", {})
