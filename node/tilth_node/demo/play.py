"""The demo: starts three nodes, lets the session of user-code/ run on them, cleans up.

Invariants: whatever ends the demo (success, failure, Ctrl-C), the nodes are stopped and a folder
that the demo made itself is removed, unless --keep says otherwise. The exit code is 0 only when the
row verified and its changed copy did not.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tilth_ledger.errors import InvalidInput, TilthError
from tilth_node import consortium
from tilth_node.demo import screen
from tilth_node.worker.isolation import NO_ISOLATION

NAME = "tilth-demo"
ORGANIZATIONS = ("hospital-a", "hospital-b", "hospital-c")
SESSION = Path(__file__).parent / "user-code" / "session.py"


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    folder: Path
    own_folder: bool  # made by the demo, so removed by it
    keep: bool
    quiet: bool
    rounds: int | None  # None: as many as the session chooses


def run(arguments: argparse.Namespace) -> int:
    """The command; returns its exit code."""
    if arguments.stop is not None:
        _stop(arguments.stop)
        shown = {"stopped": str(arguments.stop)}
        print(
            json.dumps(shown) if arguments.json else f"The nodes of {arguments.stop} are stopped."
        )
        return 0
    options = Options(
        folder=_folder(arguments.folder),
        own_folder=arguments.folder is None,
        keep=arguments.keep,
        quiet=arguments.json,
        rounds=arguments.rounds,
    )
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the nodes go too
    with _cleaned_up(options):
        result = _demo(options)
        seconds = round(time.monotonic() - begun, 1)
        if options.quiet:
            print(
                json.dumps(result | {"seconds": seconds, "folder": str(options.folder)}, indent=2)
            )
        else:
            _farewell(options, seconds)
    return 0


def _stop(folder: Path) -> None:
    if not (folder / consortium.GENESIS).exists():
        raise InvalidInput(
            "there is no demo in this folder",
            found=f"no {consortium.GENESIS} in {folder}",
            expected="a folder that tilth demo --keep has printed",
            remedy="Start one with: tilth demo --keep",
        )
    consortium.stop(folder)


def _demo(options: Options) -> dict[str, Any]:
    out = screen.stdout(quiet=options.quiet)
    out.title("Three hospitals train, certify and rank a model. Nothing leaves this machine.")
    with _session(options) as session:
        with out.chapter("A consortium of three"):
            begun = _network(options, out)
        orders = {
            "addresses": {each.organization: each.client_address for each in begun.running},
            "grade": begun.grade,
        } | ({} if options.rounds is None else {"rounds": options.rounds})
        _tell(session, orders)
        if session.wait() != 0:
            raise TilthError(
                "the demo's session failed",
                found=f"exit code {session.returncode}, see above",
                remedy=f"the nodes' logs are {options.folder}/hospital-*/node.log (use --folder)",
            )
    result: dict[str, Any] = json.loads((options.folder / "result.json").read_bytes())
    return result


def _network(options: Options, out: screen.Screen) -> consortium.Begun:
    """The running nodes, and a word about each."""
    begun = consortium.begin(options.folder, NAME, ORGANIZATIONS)
    for each in begun.running:
        out.say(f"{each.organization}  node at {each.client_address}, process {each.pid}")
    out.say("The demo made all keys itself. Real sites make their own: tilth node init")
    out.say("They speak mutual TLS 1.3 and vote on one ledger, each with its own copy.")
    for line in _words(begun):
        out.say(line)
    return begun


def _words(begun: consortium.Begun) -> Iterator[str]:
    """What isolates the tasks of the demo, and how it is known."""
    held = sum(check.holds for check in begun.checks)
    if begun.grade == NO_ISOLATION:
        broken = next(check for check in begun.checks if not check.holds)
        yield "This machine cannot isolate tasks: they run as plain processes, grade D, which is"
        yield f"enough for the demo's own code only. What failed: {broken.name}: {broken.detail}"
        return
    yield f"Tasks run in the sandbox. Its grade here is {begun.grade}: of {len(begun.checks)}"
    yield f"attempts to break out or to misbehave it held {held}, a moment ago."


@contextmanager
def _session(options: Options) -> Iterator["subprocess.Popen[str]"]:
    """The process of the three persons; it prepares data while the nodes start."""
    quiet = ["--quiet"] if options.quiet else []
    process = subprocess.Popen(
        [sys.executable, str(SESSION), str(options.folder), *quiet],
        stdin=subprocess.PIPE,
        env=os.environ | {"TILTH_HOME": str(options.folder / "home")},
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _tell(session: "subprocess.Popen[str]", orders: dict[str, Any]) -> None:
    if session.stdin is not None:
        session.stdin.write(json.dumps(orders) + "\n")
        session.stdin.flush()


@contextmanager
def _cleaned_up(options: Options) -> Iterator[None]:
    """Nodes and folder go, unless all went well and --keep was said."""
    keep = False
    try:
        yield
        keep = options.keep
    finally:
        if not keep:
            consortium.stop(options.folder)
            if options.own_folder:
                shutil.rmtree(options.folder, ignore_errors=True)


def _folder(chosen: Path | None) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="tilth-demo-"))
    return consortium.own_folder(chosen, "the demo", "--folder")


def _farewell(options: Options, seconds: float) -> None:
    out = screen.stdout(quiet=False)
    out.title(f"\nFrom nothing to a verified leaderboard in {seconds:.0f} seconds.\n")
    if not options.keep:
        out.say("Next: tilth demo --keep       leaves the three nodes up, to work with them")
        out.say("      tilth --help            all commands")
        out.say("      README.md               the script of the scientist, line by line")
        return
    folder = options.folder
    out.say("The three nodes keep running. In another shell:")
    out.say(f"  cd {folder}")
    if shutil.which("tilth") is None:  # called by its path, as `make demo` does
        out.say(f"  export PATH={Path(sys.executable).parent}:$PATH")
    out.say("  export TILTH_HOME=$PWD/home TILTH_PROFILE=hospital-a")
    out.say("  tilth status")
    out.say('  tilth leaderboard "digits accuracy"')
    out.say("  tilth plan list")
    out.say("  tilth verify row.json --genesis genesis.json")
    out.say(f"Stop them with: tilth demo --stop {folder}")
