"""`tilth task`: tasks of compute plans."""

import argparse
import json

from tilth.cli.options import network, show, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    one = verb(actions, "show", _show, "a task, its inputs, its receipt")
    one.add_argument("task", help="key")
    cancel = verb(actions, "cancel", _cancel, "stop one task (plan's owner, worker's admin)")
    cancel.add_argument("task", help="key")
    close = verb(actions, "close", _close, "let an aggregate begin with the inputs that are there")
    close.add_argument("task", help="key")
    log = verb(actions, "log", _log, "what the task's code printed, if you may read it")
    log.add_argument("task", help="key")
    report = verb(actions, "report", _report, "what the task's code reported, if you may read it")
    report.add_argument("task", help="key")


def _show(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        task = net.tasks.one(arguments.task)
    facts = {**task.facts, "state": task.state}
    show(arguments, facts, json.dumps(facts, indent=2, ensure_ascii=False))


def _cancel(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        task = net.tasks.cancel(arguments.task)
    show(arguments, task, f"{task.kind} at {task.worker}: {task.state}")


def _close(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        task = net.tasks.close(arguments.task)
    show(arguments, task, f"{task.kind} at {task.worker}: {task.state}")


def _log(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        text = net.tasks.log(arguments.task)
    show(arguments, {"task": arguments.task, "log": text}, text)


def _report(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.tasks.report(arguments.task)
    show(arguments, found, json.dumps(found, indent=2, ensure_ascii=False))
