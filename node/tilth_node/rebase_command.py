"""`tilth ledger rebase sign | begin | join`: a new ledger where the old one cannot go on.

Left to others: what it does (rebasing). Nothing heavy is imported before a command runs.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

WORDS = "begin anew from the last final block, when the ledger has forked or lost its quorum"
EPILOG = (
    "In this order, when the members have agreed on one final block: every remaining member runs"
    " `sign` on its own machine, with its node stopped; one of them runs `begin` with all"
    " statements, and everybody compares the hash; then every member runs `join` and starts its"
    " node. The new ledger is empty and names the old one; the old one stays below FOLDER/before,"
    " and what it proved holds."
)


def register(verbs: Any) -> None:
    """Add `rebase` to the verbs of `tilth ledger`."""
    noun = verbs.add_parser("rebase", help=WORDS, description=WORDS, epilog=EPILOG)
    steps = noun.add_subparsers(metavar="STEP", required=True)

    sign = _step(steps, "sign", "state the last final block of this member's folder")
    sign.add_argument("folder", type=Path, help="of the node, which is stopped")
    sign.add_argument(
        "--like",
        type=Path,
        metavar="FILE",
        help="sign the block of another member's statement: this folder holds the other branch",
    )
    sign.add_argument("--out", type=Path, help="file to write (default ORGANIZATION.rebase.json)")

    begin = _step(steps, "begin", "write the new genesis from the members' statements")
    begin.add_argument("folder", type=Path, help="of a member that holds the block")
    begin.add_argument("--name", required=True, help="of the new consortium")
    begin.add_argument(
        "--statement", type=Path, action="append", required=True, help="repeat for each member"
    )
    begin.add_argument("--out", type=Path, default=Path("genesis.json"), help="file to write")

    join = _step(steps, "join", "move a folder to the new consortium")
    join.add_argument("folder", type=Path, help="of the node, which is stopped")
    join.add_argument("genesis", type=Path, help="that `begin` wrote")
    join.add_argument("--hash", help="refuse any genesis but the one with this SHA-256")
    for step, run in ((sign, _sign), (begin, _begin), (join, _join)):
        step.add_argument("--json", action="store_true", help="print one JSON object")
        step.set_defaults(run=run)


def _step(steps: Any, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = steps.add_parser(name, help=words, description=words)
    return parser


def _sign(arguments: argparse.Namespace) -> int:
    from tilth_ledger import rebase
    from tilth_node import config, rebasing
    from tilth_node.folder import write_file

    like = None if arguments.like is None else arguments.like.read_bytes()
    statement = rebasing.sign(arguments.folder, like)
    checkpoint = rebase.gather([statement])
    name = config.load(arguments.folder).organization
    out = arguments.out or Path(f"{name}.rebase.json")
    write_file(out, statement)
    header = checkpoint.header
    facts = {
        "statement": str(out),
        "block": header.hash.hex(),
        "height": header.height,
        "size": header.size,
        "root": header.root.hex(),
    }
    _say(
        arguments,
        facts,
        f"{out}: {name} would begin anew behind block {header.hash.hex()[:16]},",
        f"height {header.height}, {header.size} entries, root {header.root.hex()}.",
        "Compare the block with the other members; all must sign the same.",
        "Then one of you runs: tilth ledger rebase begin FOLDER --name NAME --statement FILE ...",
    )
    return 0


def _begin(arguments: argparse.Namespace) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_node import rebasing
    from tilth_node.folder import write_file

    if arguments.out.exists():
        raise InvalidInput(
            f"{arguments.out} exists already", remedy="choose another --out; it is never replaced"
        )
    statements = [path.read_bytes() for path in arguments.statement]
    genesis = rebasing.begin(arguments.folder, arguments.name, statements)
    write_file(arguments.out, genesis.bytes)
    voting = [member.organization for member in genesis.members]
    facts = {"genesis": str(arguments.out), "net": genesis.net, "members": voting, "q": genesis.q}
    _say(
        arguments,
        facts,
        f"{arguments.out}: {genesis.name}, with the votes of {', '.join(voting)}, q = {genesis.q}",
        f"hash  {genesis.net}",
        "Every member confirms this hash with the others, by another way than this file came:",
        f"  tilth ledger rebase join FOLDER {arguments.out} --hash {genesis.net}",
    )
    return 0


def _join(arguments: argparse.Namespace) -> int:
    from tilth_ledger.canonical import sha256_hex
    from tilth_ledger.errors import InvalidInput
    from tilth_node import rebasing

    found = sha256_hex(arguments.genesis.read_bytes())
    if arguments.hash not in (None, found):
        raise InvalidInput(
            "this is not the genesis that was agreed on",
            found=found,
            expected=arguments.hash,
            remedy="get the file again, and compare the hash with the other members",
        )
    genesis = rebasing.join(arguments.folder, arguments.genesis)
    old = str((genesis.continues or {})["net"])
    kept = arguments.folder / "before" / old[:16]
    _say(
        arguments,
        {"folder": str(arguments.folder), "net": genesis.net, "before": str(kept)},
        f"{arguments.folder} belongs to {genesis.name} now.",
        f"The old ledger lies in {kept}, whole. To verify all of it: tilth audit {kept}",
        f"Its boards: tilth node board {kept} OBJECTIVE; its proofs: tilth verify ROW.json"
        f" --genesis {arguments.genesis} --before {kept / 'genesis.json'}",
        f"Start the node: tilth node run {arguments.folder}",
    )
    return 0


def _say(arguments: argparse.Namespace, facts: dict[str, Any], *lines: str) -> None:
    text = json.dumps(facts) if arguments.json else "\n".join(lines)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
