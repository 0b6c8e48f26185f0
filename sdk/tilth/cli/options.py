"""What every command of the SDK shares: --profile, --json, and the two ways to show a result."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tilth.errors import InvalidInput
from tilth.terminal import harmless

if TYPE_CHECKING:
    from tilth.client import Network


def verbs(noun: argparse.ArgumentParser) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    """The place where a noun's verbs are registered; a noun alone prints its verbs."""
    return noun.add_subparsers(metavar="VERB", title="verbs", required=True)


def verb(
    parent: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    about: str,
) -> argparse.ArgumentParser:
    """Adds one verb with the common options."""
    return common(parent.add_parser(name, help=about, description=about), run)


def common(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int | None],
) -> argparse.ArgumentParser:
    """The options of every command, and what it runs."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--profile", metavar="NAME", help="which node to talk to (default: TILTH_PROFILE)"
    )
    parser.add_argument(
        "--read",
        metavar="HOW",
        default="at-least=0",
        help="how fresh: local (what this node has), at-least=SIZE (entries), linearizable (all"
        " that was final anywhere before; costs a block)",
    )
    parser.set_defaults(run=run)
    return parser


def network(arguments: argparse.Namespace) -> "Network":
    """The network behind --profile, as fresh as --read wants it."""
    from tilth.client import connect  # gRPC is loaded only by commands that talk to a node

    how, _, size = getattr(arguments, "read", "at-least=0").partition("=")
    if size and (how != "at-least" or not size.isdecimal()):
        raise InvalidInput(
            "--read is wrong",
            found=arguments.read,
            expected="local, at-least=SIZE or linearizable",
            remedy="For example: --read linearizable",
        )
    # One barrier serves the whole command: all that it reads comes after it.
    net = connect(arguments.profile, "at-least" if how == "linearizable" else how)
    if how == "linearizable":
        net.barrier()
    net.rows.at_least(int(size or 0))
    return net


def show(arguments: argparse.Namespace, value: Any, text: str) -> None:
    """Prints `value` as JSON with --json, else `text`."""
    if arguments.json:
        print(json.dumps(plain(value), indent=2))
    else:
        print(harmless(text))


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return value.hex() if isinstance(value, bytes) else value


def names(text: str) -> Any:
    """`all` or `public` is the public grant, `participants` that of a plan's participants, anything
    else a list of organizations with commas."""
    word = text.strip()
    if word in {"all", "public"}:
        return "public"
    if word == "participants":
        return word
    return [name.strip() for name in word.split(",") if name.strip()]


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A text table; see tilth.tables."""
    from tilth.tables import table as render

    return render(head, rows)
