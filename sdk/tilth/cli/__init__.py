"""The `tilth` command: nouns, then verbs.

- Start-up is cheap: only the noun in use is imported; commands that other packages add (entry
  point group `tilth.commands`) are looked up only when no noun of the SDK was meant, and then the
  SDK's are not made.
- A command is a function `run(arguments) -> int | None`, set with `parser.set_defaults(run=...)`.
  It raises TilthError when it cannot do its work; here is the one place that prints it.
- Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.
"""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from tilth import __version__
from tilth.terminal import harmless

if TYPE_CHECKING:
    from tilth_ledger.errors import TilthError

# Noun -> what it is for. The module that holds its verbs is `tilth.cli.<noun>`.
NOUNS = {
    "algo": "algorithms: untrained code",
    "approval": "your word on tasks that want your data",
    "check": "try an algorithm here, on made-up data",
    "data": "datasets of your organization and who may use them",
    "environment": "what code needs to run",
    "identity": "the people and keys of your organization",
    "leaderboard": "certified results of an objective, best first",
    "ledger": "entries of the ledger",
    "member": "who votes on the ledger, and changing it",
    "model": "models: what training made",
    "objective": "objectives: a metric and the test sets it is measured on",
    "organization": "the parties of the consortium",
    "plan": "compute plans",
    "profile": "which node to talk to, and with which key",
    "row": "certified leaderboard rows as proof bundles",
    "sample": "units of data, and taking them back",
    "status": "the node and its ledger, as seen through a profile",
    "task": "tasks of compute plans",
    "verify": "check an exported row offline",
}
EXTENSIONS = "tilth.commands"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words == ["--version"]:
        print(f"tilth {__version__}")
        return 0
    parser = build_parser(words[0] if words and not words[0].startswith("-") else None)
    arguments = parser.parse_args(words)
    return _run(arguments, parser)


def build_parser(noun: str | None = None) -> argparse.ArgumentParser:
    """The whole parser, or only the part that knows a noun; the whole one if none does."""
    parser = argparse.ArgumentParser(
        prog="tilth",
        description="Federated learning with a ledger anyone can verify. New here? `tilth demo "
        "--keep` starts a consortium to try things on; `tilth COMMAND --help` shows what a command "
        "can do.",
        epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 interrupted.",
        formatter_class=_wide,
    )
    parser.add_argument("--version", action="version", version=f"tilth {__version__}")
    nouns = parser.add_subparsers(metavar="COMMAND", title="commands", dest="noun")
    for name in NOUNS if noun is None else NOUNS.keys() & {noun}:
        module = import_module(f"tilth.cli.{name}")
        about = NOUNS[name]
        module.register(
            nouns.add_parser(name, help=about, description=about, formatter_class=_wide)
        )
    if noun not in NOUNS:
        _add_extensions(nouns)
    return parser if noun is None or noun in nouns.choices else build_parser()


def _wide(prog: str) -> argparse.HelpFormatter:
    """Help with room for the longest noun, so that each has one line."""
    return argparse.HelpFormatter(prog, max_help_position=30)


def extend(noun: str, verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verbs that other packages have for one of the SDK's nouns."""
    for register in _extensions():
        if add := getattr(register, "verbs", {}).get(noun):
            add(verbs)


def _add_extensions(nouns: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    for register in _extensions():
        register(nouns)


def _extensions() -> Iterator[Any]:
    from importlib.metadata import entry_points  # 40 ms that hardly a command of the SDK pays

    for point in sorted(entry_points(group=EXTENSIONS), key=lambda point: point.name):
        try:
            register = point.load()
        except ModuleNotFoundError as missing:
            # The commands of an extra that is not installed are simply not there.
            print(f"tilth: commands of {point.value} left out: {missing}", file=sys.stderr)
            continue
        yield register


def _run(arguments: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from tilth_ledger.errors import InvalidInput, TilthError

    run = getattr(arguments, "run", None)
    if run is None:
        parser.print_help()
        return 2
    as_json = bool(getattr(arguments, "json", False))
    warnings.showwarning = _print_warning
    try:
        return run(arguments) or 0
    except TilthError as error:
        _print_error(error, as_json=as_json)
        return 1
    except KeyboardInterrupt:
        print("tilth: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tilth ... | head` is not an error
        sys.stderr.close()
        return 0
    except OSError as error:
        found = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        failed = InvalidInput(
            "a file cannot be read or written",
            found=found,
            remedy="Check the path, and who may read and write it.",
        )
        _print_error(failed, as_json=as_json)
        return 1
    except ModuleNotFoundError as error:
        if (error.name or "tilth").startswith("tilth"):
            raise  # ours: a broken installation, not a missing extra
        absent = InvalidInput(
            "this command needs a package that is not installed",
            found=f"no module {error.name}",
            expected="Tilth with its extra `node`",
            remedy="Run: pip install 'tilth[node]'",
        )
        _print_error(absent, as_json=as_json)
        return 1


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """As `warnings.showwarning`, for people: the words alone."""
    mark = "" if category.__name__ == "Waiting" else "WARNING "
    print(harmless(f"tilth: {mark}{message}"), file=sys.stderr, flush=True)


def _print_error(error: "TilthError", *, as_json: bool) -> None:
    """The facts, one line each: what is wrong, what was found, what was expected, what to do."""
    import json

    facts = error.as_dict()
    if as_json:
        print(json.dumps({"error": facts}, indent=2))
        return
    by = f"refused by rule {facts['rule']}: " if "rule" in facts else ""
    lines = [f"tilth: {by}{error.message}"]
    words = {"found": "found", "expected": "expected", "remedy": "to do"}
    lines += [f"  {word:9} {facts[name]}" for name, word in words.items() if name in facts]
    print(harmless("\n".join(lines)), file=sys.stderr)
