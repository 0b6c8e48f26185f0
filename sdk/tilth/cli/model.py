"""`tilth model`: what training made, taken out by those who hold `download`."""

import argparse
from pathlib import Path
from typing import Any

from tilth.cli.options import names, network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    found = verb(actions, "list", _list, "models of a plan, or of all")
    found.add_argument("plan", nargs="?", help="name or key")
    download = verb(actions, "download", _download, "write a task's model into a new folder")
    download.add_argument("task", help="key of the task that made it")
    download.add_argument("--out", type=Path, default=Path("model"), help="folder (default model)")
    brought = verb(actions, "import", _import, "register a model that was made elsewhere")
    brought.add_argument("path", type=Path, help="an .h5 or .safetensors file, or a folder")
    brought.add_argument("--origin", required=True, help="where it comes from, for all to read")
    brought.add_argument("--use", default="all", help="who may run it (default all)")
    brought.add_argument("--download", default="", help="who may take it out (default its owner)")
    narrow = verb(actions, "narrow", _narrow, "fewer may use or download it (plan's owner)")
    widen = verb(actions, "widen", _widen, "consent that others use or download it (data owner)")
    for each in (narrow, widen):
        each.add_argument("task", help="key of the task that made it")
        each.add_argument("--output", default="model", help="which output (default model)")
        each.add_argument("--use", metavar="ORGS", help="organizations, with commas")
        each.add_argument("--download", metavar="ORGS", help="organizations, with commas")


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


def _import(arguments: argparse.Namespace) -> None:
    grants = {"use": names(arguments.use), "download": names(arguments.download)}
    with network(arguments) as net:
        found = net.models.import_(arguments.path, origin=arguments.origin, **grants)
    show(arguments, found, f"{found.task}\nin a plan: tilth.plan.Model({found.task!r})")


def _narrow(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        net.models.narrow(arguments.task, **_stated(arguments), output=arguments.output)
    show(arguments, {"narrowed": arguments.task, **_stated(arguments)}, "narrowed")


def _widen(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        net.models.widen(arguments.task, **_stated(arguments), output=arguments.output)
    text = "consented; it holds once every owner of data behind the model has"
    show(arguments, {"widened": arguments.task, **_stated(arguments)}, text)


def _stated(arguments: argparse.Namespace) -> dict[str, Any]:
    stated = {"use": arguments.use, "download": arguments.download}
    return {right: names(text) for right, text in stated.items() if text is not None}
