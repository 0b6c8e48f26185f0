"""The engine behind `tilth.local()`: a consortium that lives as long as somebody holds it.

A keeper process makes the consortium, says where it is, and waits on its standard input. When that
says a line or ends, because its holder closed it, was left or was killed, the keeper stops the
nodes and removes a folder that it made itself.

Invariants
- The nodes end with their holder, whatever ends the holder, also a signal that nobody can handle.
- A folder that was given is new or empty, and stays.

Found by the SDK through the entry point group `tilth.engines`; the SDK never imports this package.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth_ledger.errors import TilthError, from_dict

KEEPER = (sys.executable, "-m", "tilth_node.local")
NAME = "tilth-local"
READS = Path("/")  # its nodes may read whatever the person may who started them


class Held:
    """A running consortium: `facts` says where it is, `close` ends it."""

    def __init__(self, keeper: "subprocess.Popen[str]", facts: Mapping[str, Any]) -> None:
        self._keeper = keeper
        self.facts = facts

    def close(self) -> None:
        """Ends the nodes; returns when they are gone. Again is harmless."""
        self._keeper.communicate("stop\n" if self._keeper.poll() is None else None)


def hold(organizations: Sequence[str], folder: Path | None) -> Held:
    """Starts one node for each organization; returns when all serve.

    facts: folder, genesis (paths), grade, and sites: organization, address and admin_key of each.
    """
    chosen = [] if folder is None else ["--folder", str(folder)]
    keeper = subprocess.Popen(
        [*KEEPER, *chosen, *organizations],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the holder, which decides
    )
    said = json.loads((keeper.stdout and keeper.stdout.readline()) or "null")
    if said is None or "error" in said:
        keeper.communicate()
        if said is not None:
            raise from_dict(said["error"])
        raise TilthError(
            "the local consortium did not start",
            found=f"its keeper ended with exit code {keeper.returncode}",
            remedy="What it printed above says why.",
        )
    return Held(keeper, said)


def main(words: Sequence[str] | None = None) -> int:
    """The keeper."""
    parser = argparse.ArgumentParser(prog="tilth_node.local", description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("organizations", nargs="+")
    arguments = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the nodes go too
    try:
        _keep(arguments.organizations, arguments.folder)
    except TilthError as error:
        _say({"error": error.as_dict()})
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _keep(organizations: Sequence[str], chosen: Path | None) -> None:
    from tilth_node import consortium  # every part of the node, which its holder need not load

    if chosen is None:
        folder = Path(tempfile.mkdtemp(prefix="tilth-local-"))
    else:
        folder = consortium.own_folder(chosen, "a local consortium", "folder")
    try:
        begun = consortium.begin(folder, NAME, organizations, data_root=READS)
        _say(
            {
                "folder": str(folder),
                "genesis": str(folder / consortium.GENESIS),
                "grade": begun.grade,
                "sites": [
                    {
                        "organization": each.organization,
                        "address": each.client_address,
                        "admin_key": str(folder / each.organization / "keys" / "admin.seed"),
                    }
                    for each in begun.running
                ],
            }
        )
        sys.stdin.readline()
    finally:
        consortium.stop(folder)
        if chosen is None:
            shutil.rmtree(folder, ignore_errors=True)


def _say(facts: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
