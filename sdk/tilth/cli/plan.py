"""`tilth plan`: compute plans, which are graphs of tasks submitted as one."""

import argparse
import json
from pathlib import Path
from typing import Any

from tilth.cli.options import network, show, table, verb, verbs
from tilth.errors import InvalidInput


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    verb(actions, "list", _list, "plans of the consortium")
    for name, run, about in (
        ("show", _show, "a plan and its tasks"),
        ("watch", _watch, "follow a plan until it ends; Ctrl-C leaves it running"),
        ("close", _close, "no more tasks: an open plan ends with its last"),
        ("cancel", _cancel, "stop what is not finished"),
        ("retry", _retry, "reopen the tasks that failed"),
    ):
        verb(actions, name, run, about).add_argument("plan", help="name or key")
    extend = verb(actions, "extend", _extend, "add tasks to an open plan")
    extend.add_argument("plan", help="name or key")
    extend.add_argument(
        "tasks", type=Path, help="JSON file: a list of tasks as plan.tasks holds them"
    )


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.plans.list()
    rows = [(each.name, each.owner, each.status, each.count, each.key) for each in found]
    show(arguments, found, table(("name", "owner", "status", "tasks", "key"), rows))


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        run = net.plans.find(arguments.plan)
        tasks = run.tasks()
    rows = [(t.rank, t.kind, t.worker, t.state, t.value, t.reason, t.key) for t in tasks]
    text = f"{run.plan.name}: {run.plan.status}\n"
    head = ("rank", "kind", "worker", "state", "score", "reason", "key")
    show(arguments, {"plan": run.plan, "tasks": tasks}, text + table(head, rows))


def _watch(arguments: argparse.Namespace) -> int:
    with network(arguments) as net:
        run = net.plans.find(arguments.plan).watch(quiet=arguments.json)
        outcome = run.outcome()
    show(arguments, outcome, str(outcome))
    return 0 if outcome.ok else 1


def _close(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        run = net.plans.find(arguments.plan)
        run.close()
    show(arguments, run.plan, f"plan {run.plan.name} closed: {run.plan.status}")


def _extend(arguments: argparse.Namespace) -> None:
    tasks = _tasks(arguments.tasks)
    with network(arguments) as net:
        run = net.plans.find(arguments.plan).extend(tasks)
    show(arguments, run.plan, f"plan {run.plan.name} has {run.plan.count} tasks")


def _tasks(file: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        found = str(error)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidInput(
            "this file holds no tasks",
            found=f"{file}: {str(found)[:80]}",
            expected="a JSON list of tasks, each an object with key, kind, worker, algo, inputs",
            remedy="Take a recorded one as a pattern: tilth ledger show INDEX",
        )
    return found


def _cancel(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        run = net.plans.find(arguments.plan)
        run.cancel()
    show(arguments, {"canceled": run.key}, f"plan {run.plan.name} canceled")


def _retry(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        again = net.plans.find(arguments.plan).retry()
    text = "\n".join(f"{t.kind} at {t.worker}: again" for t in again) or "nothing has failed"
    show(arguments, again, text)
