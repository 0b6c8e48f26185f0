"""`tilth data`: datasets of your organization, and who may use them."""

import argparse
from pathlib import Path

from tilth.cli.options import names, network, show, table, verb, verbs

# Who has a right while its owner says nothing.
DEFAULTS = {
    "train": "owner",
    "test": "owner",
    "updates": "who may train, and aggregators of their plans",
    "mixed": "participants",
    "logs": "owner and plan's owner",
    "report": "owner and plan's owner",
    "details": "owner",
    "probe": "owner",
}
RIGHTS = tuple(DEFAULTS)
MEANING = {
    "train": "who may train on it",
    "test": "who may test and predict on it",
    "updates": "who may use models trained on it, unmixed",
    "mixed": "who may use models that mix it with others' data",
    "logs": "who may read what code printed on it",
    "report": "who may read what code reported on it",
    "details": "who may read values of single samples",
    "probe": "who may test on parts of an objective's test samples",
}


def register(noun: argparse.ArgumentParser) -> None:
    actions = verbs(noun)
    add = verb(actions, "add", _add, "register samples; they never leave the node (owner)")
    add.add_argument("name", help="an existing name of yours adds samples to that dataset")
    add.add_argument("--opener", type=Path, metavar="DIR", help="the code that reads samples")
    add.add_argument("--train", type=Path, metavar="DIR", help="one sample per entry of DIR")
    add.add_argument("--test", type=Path, metavar="DIR", help="the same, for test samples")
    add.add_argument("--predict", type=Path, metavar="DIR", help="the same, without targets")
    add.add_argument(
        "--targets",
        action="append",
        default=[],
        metavar="GLOB",
        help="files that hold labels (default: the opener exports features)",
    )
    add.add_argument("--in-place", action="store_true", help="leave the bytes where they are")
    add.add_argument(
        "--approval", action="store_true", help="each use of it needs your approval first"
    )
    add.add_argument(
        "--environment",
        help="what the opener needs to run: name or key (default: Python with numpy and h5py)",
    )
    add.add_argument("--description", default="", help="what this is")
    grant = verb(actions, "grant", _grant, "say who may use a dataset (owner)")
    grant.epilog = (
        "WHO is organizations with commas, or all; for --mixed also participants. What is granted "
        "replaces what was, and binds every later use, also in running plans."
    )
    grant.add_argument("name", help="name or key of the dataset")
    for right in RIGHTS:
        grant.add_argument(
            f"--{right}",
            type=names,
            metavar="WHO",
            help=MEANING[right],
        )
    grant.add_argument("--min-parties", type=int, help="least organizations in a mix (default 2)")
    accept = verb(actions, "accept-algo", _accept, "let an aggregation algorithm mix your models")
    accept.add_argument("name", help="name or key of the dataset")
    accept.add_argument("algo", help="name or key of the algorithm")
    sets = verb(actions, "sets", _sets, "the sealed sample sets of a dataset")
    sets.add_argument("name", help="name or key of the dataset")
    code = verb(actions, "code", _code, "write its opener into a new folder, to read it")
    code.add_argument("name", help="name or key of the dataset")
    code.add_argument("--out", type=Path, default=Path("opener"), help="folder (default opener)")
    withdraw = verb(actions, "withdraw", _withdraw, "no new use of a dataset of yours (owner)")
    withdraw.add_argument("name", help="name or key of the dataset")
    verb(actions, "list", _list, "datasets of the consortium")


def _add(arguments: argparse.Namespace) -> None:
    from tilth.progress import reporter

    with network(arguments) as net, reporter(quiet=arguments.json) as progress:
        environment = arguments.environment and net.environments.find(arguments.environment)
        made = net.datasets.add(
            arguments.name,
            environment=environment or None,
            opener=arguments.opener,
            train=arguments.train,
            test=arguments.test,
            predict=arguments.predict,
            targets=arguments.targets,
            in_place=arguments.in_place,
            approval="required" if arguments.approval else "none",
            description=arguments.description,
            progress=progress,
        )
    sets = "\n".join(f"{each.label}: {each.count} samples, set {each.key}" for each in made.sets)
    text = f"dataset {made.name}: {made.key}\n{sets}"
    if not made.grants:
        text += (
            "\nnobody else may use it yet; to let others in:"
            f"\n  tilth data grant {made.name} --train ORGANIZATION --test all"
        )
    show(arguments, made, text)


def _grant(arguments: argparse.Namespace) -> None:
    chosen = {right: getattr(arguments, right) for right in RIGHTS}
    grants = {right: who for right, who in chosen.items() if who is not None}
    with network(arguments) as net:
        dataset = net.datasets.mine(arguments.name)
        after = net.datasets.grant(dataset, min_parties=arguments.min_parties, **grants)
    rows = [(right, _who(after.grants.get(right, DEFAULTS[right]))) for right in RIGHTS]
    show(arguments, after, table(("right", "who"), rows))


def _accept(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        dataset = net.datasets.mine(arguments.name)
        algo = net.algos.find(arguments.algo)
        net.datasets.accept_algo(dataset, algo)
    show(
        arguments,
        {"dataset": dataset.key, "algo": algo.key},
        f"{algo.name} may mix models of {dataset.name}",
    )


def _sets(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = [e for e in net.datasets.list() if arguments.name in (e.name, e.key)]
        if not found:
            net.datasets.one(name=arguments.name)  # says which there are
    rows = [
        (e.owner, each.label, each.count, "yes" if each == e.set_of(each.label) else "", each.key)
        for e in found
        for each in e.sets
    ]
    sets = [each for dataset in found for each in dataset.sets]
    show(arguments, sets, table(("owner", "label", "samples", "current", "key"), rows))


def _code(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        folder = net.datasets.code(net.datasets.find(arguments.name), arguments.out)
    show(arguments, {"folder": str(folder)}, f"{folder}\nread it before you run it")


def _withdraw(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        dataset = net.datasets.mine(arguments.name)
        net.datasets.withdraw(dataset)
    show(arguments, {"withdrawn": dataset.key}, f"dataset {dataset.name} is withdrawn")


def _list(arguments: argparse.Namespace) -> None:
    with network(arguments) as net:
        found = net.datasets.list()
    rows = [
        (
            each.name,
            each.owner,
            " ".join(f"{s.label}:{s.count}" for s in each.sets),
            _who(each.grants.get("train")),
            _who(each.grants.get("test")),
            each.key,
        )
        for each in found
    ]
    show(arguments, found, table(("name", "owner", "sets", "train", "test", "key"), rows))


def _who(grant: object) -> str:
    if isinstance(grant, list | tuple):
        return ", ".join(grant) or "owner"
    return "all" if grant == "public" else str(grant or "owner")
