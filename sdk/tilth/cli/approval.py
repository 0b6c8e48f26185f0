"""`tilth approval`: a data owner's word on tasks that want its data."""

import argparse

from tilth.cli.options import network, show, table, verb, verbs


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    verb(actions, "list", _list, "tasks that wait for your approval")
    give = verb(actions, "give", _give, "approve tasks on your data (owner)")
    give.add_argument("--runs", type=int, help="how many tasks may begin (default: any number)")
    give.add_argument("--grade", choices=("A", "B", "C", "D"), help="least isolation")
    deny = verb(actions, "deny", _deny, "deny them: what waits fails (owner)")
    for each in (give, deny):
        each.add_argument("--plan", help="key of a plan")
        each.add_argument("--algo", help="digest of an algorithm")
        each.add_argument("--dataset", help="name or key (default: those that were asked for)")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.approvals.asked()
    rows = [(each.author, each.plan, each.algo[:16], each.dataset) for each in found]
    show(arguments, found, table(("asked by", "plan", "algo", "dataset"), rows))


def _give(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        dataset = net.datasets.mine(arguments.dataset) if arguments.dataset else None
        done = net.approvals.give(
            plan=arguments.plan,
            algo=arguments.algo,
            dataset=dataset,
            runs=arguments.runs,
            minimum_grade=arguments.grade,
        )
    show(arguments, {"approved": done}, "\n".join(f"approved on {key}" for key in done))


def _deny(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        dataset = net.datasets.mine(arguments.dataset) if arguments.dataset else None
        done = net.approvals.deny(plan=arguments.plan, algo=arguments.algo, dataset=dataset)
    show(arguments, {"denied": done}, "\n".join(f"denied on {key}" for key in done))
