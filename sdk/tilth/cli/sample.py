"""`tilth sample`: units of data and of consent, and taking them back."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    found = verb(actions, "list", _list, "samples of a dataset, as the ledger knows them")
    found.add_argument("dataset", help="name or key; of several of one name, yours")
    withdraw = verb(actions, "withdraw", _withdraw, "take samples back: no new use (owner)")
    withdraw.add_argument("sample", nargs="+", help="keys, as tilth sample list prints them")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        known = net.datasets.list()
        mine = [e for e in known if arguments.dataset == e.name and e.owner == net.organization]
        dataset = mine[0] if len(mine) == 1 else net.datasets.find(arguments.dataset)
        found = net.samples.list(dataset)
    rows = [(each.label, each.status, each.key) for each in found]
    show(arguments, found, table(("label", "status", "key"), rows))


def _withdraw(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        sealed = net.samples.withdraw(arguments.sample)
    lines = [f"{len(arguments.sample)} withdrawn; sets that held them are retired"]
    lines += [f"now current: {e.label}, {e.count} samples, set {e.key}" for e in sealed]
    if any(each.label == "test" for each in sealed):
        lines.append("an objective on a retired set needs: tilth objective revise OBJECTIVE")
    facts = {"withdrawn": arguments.sample, "sets": list(sealed)}
    show(arguments, facts, "\n".join(lines))
