"""`tilth node rotate`, `copy` and `peers`: what a site makes when members change."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

_OVERLAP = (
    "Profiles of people go on working: the old authority vouches for the new one. Each person may"
    " take up the new one with: tilth profile refresh"
)
_NO_OVERLAP = (
    "Profiles of people that name the old authority connect no more once it counts: hand out the"
    " new authority.pem, for tilth profile refresh --ca FILE"
)


def register(verbs: Any) -> None:
    """Add the verbs to `tilth node`."""
    rotate = _verb(
        verbs, "rotate", _rotate, "make new keys beside the old, for the members to list"
    )
    for name, words in (
        ("member", "vote, cosign and log keys (default)"),
        ("node", "the node's own key"),
        ("admin", "the first admin's key"),
        ("tls", "the TLS authority"),
    ):
        rotate.add_argument(f"--{name}", action="store_true", help=words)
    rotate.add_argument(
        "--no-overlap",
        action="store_true",
        help="with --tls, when its key was stolen: who knows the old authority only is cut off",
    )
    copy = _verb(
        verbs, "copy", _copy, "state what of the ledger this node holds, to become a voter"
    )
    copy.add_argument("--out", type=Path, help="file to write (default: print it)")
    peers = _verb(
        verbs, "peers", _peers, "say where all nodes are now, for one that cannot know it"
    )
    peers.add_argument("--out", type=Path, help="file to write (default: print it)")


def _verb(verbs: Any, name: str, run: Any, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=words)
    parser.add_argument("folder", type=Path, help="of the node")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _rotate(arguments: argparse.Namespace) -> int:
    from tilth_node import rotating
    from tilth_node.clock import Clock

    what = [name for name in rotating.WHAT if getattr(arguments, name)] or ["member"]
    overlap = not arguments.no_overlap
    file = rotating.rotate(arguments.folder, what, Clock(), overlap=overlap)
    lines = (
        f"New keys ({', '.join(what)}) lie in {arguments.folder / 'keys'}: back them up.",
        f"Nothing changed yet. Propose them with a member's admin: tilth member rotate {file}",
        "The node takes them up by itself when the members approved; keep the old ones until then.",
        *([_OVERLAP if overlap else _NO_OVERLAP] if "tls" in what else []),
    )
    facts = {"member_file": str(file), "rotated": what}
    sys.stdout.write((json.dumps(facts) if arguments.json else "\n".join(lines)) + "\n")
    return 0


def _peers(arguments: argparse.Namespace) -> int:
    from tilth_node import founding, introductions
    from tilth_node.folder import Folder, write_file

    genesis = founding.load_genesis(Folder(arguments.folder))
    content = introductions.write(arguments.folder, genesis)
    if arguments.out is None:
        sys.stdout.write(content.decode())
        return 0
    write_file(arguments.out, content)
    words = (
        f"{arguments.out}: public; who joins late, or was away while the others moved, uses it with"
        " tilth node join FOLDER genesis.json --peers FILE"
    )
    facts = {"peers": str(arguments.out)}
    sys.stdout.write((json.dumps(facts) if arguments.json else words) + "\n")
    return 0


def _copy(arguments: argparse.Namespace) -> int:
    from tilth_node import rotating

    text = json.dumps(rotating.copy_held(arguments.folder)) + "\n"
    if arguments.out is None:
        sys.stdout.write(text)
        return 0
    arguments.out.write_text(text, encoding="utf-8")
    words = f"{arguments.out}: hand it to the admin who proposes the vote (--copy)"
    sys.stdout.write(text if arguments.json else words + "\n")
    return 0
