"""`tilth model`: what training made, taken out by those who hold `download`."""

import argparse
from pathlib import Path

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    found = verb(actions, "list", _list, "models of a plan, or of all")
    found.add_argument("plan", nargs="?", help="name or key")
    download = verb(actions, "download", _download, "write a task's model into a new folder")
    download.add_argument("task", help="key of the task that made it")
    download.add_argument("--out", type=Path, default=Path("model"), help="folder (default model)")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        plan = net.plans.find(arguments.plan).key if arguments.plan else None
        found = net.models.list(plan=plan)
    rows = [(each.task, each.worker, each.format, each.size, each.digest[:16]) for each in found]
    show(arguments, found, table(("task", "made at", "format", "bytes", "digest"), rows))


def _download(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        folder = net.models.download(arguments.task, arguments.out)
    text = f"{folder}\nread it with tilth.algorithm.weights.load, or your algorithm's own load"
    show(arguments, {"folder": str(folder)}, text)
