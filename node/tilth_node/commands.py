"""What the node adds to the `tilth` command: `tilth node ...` and `tilth network ...`.

- Found through the entry point group `tilth.commands`; the SDK never imports this package.
- Nothing but argparse is imported before a command runs: `tilth --help` stays quick.
- Each command prints words for people, or with --json one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tilth_node import (
    audit_command,
    board_command,
    image_command,
    rebase_command,
    rotate_command,
    scrub_command,
)
from tilth_node.demo import command as demo

Arguments = argparse.Namespace
PEER_PORT = 7001  # clients: the next one
ALONE = "That is this machine only. For nodes elsewhere, make it again with --address HOST."


class Commands:
    """What the entry point gives: nouns of the node, and verbs for nouns of the SDK."""

    verbs: Mapping[str, Callable[[Any], None]] = MappingProxyType(
        {"ledger": rebase_command.register}
    )

    def __call__(self, subparsers: Any) -> None:
        """Add the node's nouns to the command line."""
        _register_node(subparsers)
        _register_network(subparsers)
        audit_command.register(subparsers)
        demo.register(subparsers)


register = Commands()


def _register_node(subparsers: Any) -> None:
    node = subparsers.add_parser(
        "node",
        help="run a node (its operator, on its machine)",
        description="run a node (its operator, on its machine)",
    )
    verbs = node.add_subparsers(metavar="VERB", required=True)

    _register_init(verbs)

    join = _verb(verbs, "join", _join, "bind the folder to a consortium's genesis")
    join.add_argument("folder", type=Path, help="of the node")
    join.add_argument("genesis", type=Path, help="the file that every site has")
    join.add_argument("--hash", help="refuse any genesis but the one with this SHA-256")
    join.add_argument(
        "--newcomer",
        action="store_true",
        help="the genesis does not list this site: its members admit it (tilth member propose)",
    )
    join.add_argument(
        "--peers",
        type=Path,
        metavar="FILE",
        help="where the others are now, from a member's tilth node peers, if they moved since",
    )

    run = _verb(verbs, "run", _run, "run the node until it is told to stop")
    run.add_argument("folder", type=Path, help="of the node")
    run.add_argument(
        "--http-address",
        metavar="HOST:PORT",
        help="serve checkpoints, tiles and proofs over HTTP there (default: as in node.toml)",
    )

    health = _verb(verbs, "health", _health, "whether the node answers, by exit code")
    health.add_argument("folder", type=Path, help="of the node")

    doctor = _verb(verbs, "doctor", _doctor, "is all there, and what does the isolation hold")
    doctor.add_argument("folder", type=Path, help="of the node")

    status = _verb(verbs, "status", _status, "what the folder holds, whether or not it runs")
    status.add_argument("folder", type=Path, help="of the node")
    rotate_command.register(verbs)
    board_command.register(verbs)
    scrub_command.register(verbs)

    image_command.register(verbs)


def _register_init(verbs: Any) -> None:
    init = _verb(verbs, "init", _init, "make a node's folder with its keys")
    init.add_argument("folder", type=Path, help="of the node")
    init.add_argument("--organization", required=True, help="its short name, such as hospital-a")
    init.add_argument("--name", help="its name for people (default: the short one)")
    init.add_argument(
        "--address",
        metavar="HOST[:PORT]",
        help="where the others reach it, stated in its member file: nodes at PORT (default "
        f"{PEER_PORT}), clients at PORT + 1 (default: this machine only)",
    )
    init.add_argument("--host", help="listen there alone (default: everywhere, with --address)")
    init.add_argument("--client-port", type=int, help="to listen on; 0: any free one, unannounced")
    init.add_argument("--peer-port", type=int, help="to listen on; 0: any free one, unannounced")
    init.add_argument("--no-peer-port", action="store_true", help="accept no connection: only dial")
    init.add_argument("--peer-address", help="host:port where other nodes reach it, if elsewhere")
    init.add_argument("--client-address", help="host:port where clients reach it, if elsewhere")
    init.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="ORGANIZATION=HOST:PORT",
        help="where to dial a node whose member file does not say; repeat for several",
    )
    init.add_argument("--aggregates", action="store_true", help="offers to aggregate models")
    init.add_argument(
        "--data-root",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="samples may be imported from below it; repeat for several (default FOLDER/data)",
    )


def _register_network(subparsers: Any) -> None:
    network = subparsers.add_parser("network", help="found a consortium")
    verbs = network.add_subparsers(metavar="VERB", required=True)
    new = _verb(verbs, "new", _network_new, "write the genesis from the sites' member files")
    new.add_argument("--name", required=True, help="of the consortium")
    new.add_argument(
        "--member",
        action="append",
        default=[],
        required=True,
        type=Path,
        metavar="FILE",
        help="member.json of an organization that votes; repeat for each",
    )
    new.add_argument(
        "--organization",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="as --member, for an organization without a vote: its node follows",
    )
    new.add_argument(
        "--public", action="store_true", help="anyone may read the ledger where a node serves HTTP"
    )
    new.add_argument("--q", type=int, help="votes for a certificate (default: crash column)")
    new.add_argument("--k", type=int, help="cosignatures for certification")
    new.add_argument(
        "--out", type=Path, default=Path("genesis.json"), help="file (default genesis.json)"
    )


def _verb(
    verbs: Any, name: str, run: Callable[[Arguments], int], words: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=words, description=words)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _init(arguments: Arguments) -> int:
    from tilth_node import founding
    from tilth_node.clock import Clock

    site = founding.Site(
        organization=arguments.organization,
        name=arguments.name or arguments.organization,
        aggregates=arguments.aggregates,
        data_roots=tuple(arguments.data_root) or (arguments.folder / "data",),
        peers=_peers(arguments.peer),
        **_places(arguments),
    )
    member = founding.init(arguments.folder, site, Clock())
    if not arguments.data_root:
        site.data_roots[0].mkdir()
    peers, clients = member.peer_address, member.client_address
    facts = {"folder": str(arguments.folder), "organization": member.organization}
    facts |= {"peer_address": peers or "", "client_address": clients or ""}
    _say(
        arguments,
        facts | {"member_file": str(arguments.folder / "member.json")},
        f"{arguments.folder} is the folder of a new node of {member.organization}.",
        f"Its keys lie in {arguments.folder / 'keys'} and never leave it: back them up.",
        f"Other nodes reach it at {peers or 'no address: it dials them'}, clients at "
        f"{clients or 'an address that run/ready.json tells'}.",
        *([ALONE] if (peers or "").startswith("127.") else []),
        f"Hand over {arguments.folder / 'member.json'} (public) to whoever founds the consortium.",
    )
    return 0


def _places(arguments: Arguments) -> dict[str, Any]:
    """Where the node listens, and where its member file says that others reach it."""
    from tilth_ledger.errors import InvalidInput
    from tilth_node.config import address

    host, port = None, PEER_PORT
    if arguments.address is not None:
        bare = ":" not in arguments.address or arguments.address.endswith("]")
        host, port = address(arguments.address + (f":{PEER_PORT}" if bare else ""))
        if not 0 < port < 65_535:
            raise InvalidInput(
                "--address is wrong",
                found=str(port),
                expected="a port to 65534",
                remedy="Name a lower port: the next one is for clients.",
            )
        host = f"[{host}]" if ":" in host else host

    def chosen(stated: int | None, usual: int) -> int:
        return usual if stated is None else stated

    def announced(stated: str | None, at: int) -> str | None:
        return stated or (f"{host}:{at}" if host and at else None)

    peer, client = chosen(arguments.peer_port, port), chosen(arguments.client_port, port + 1)
    found = host or arguments.peer_address or arguments.client_address
    everywhere = "0.0.0.0"  # noqa: S104
    listens = arguments.host or (everywhere if found else "127.0.0.1")
    return {
        "host": f"[{listens}]" if ":" in listens else listens,
        "peer_port": None if arguments.no_peer_port else peer,
        "client_port": client,
        "peer_address": announced(arguments.peer_address, 0 if arguments.no_peer_port else peer),
        "client_address": announced(arguments.client_address, client),
    }


def _health(arguments: Arguments) -> int:
    from tilth_node import health

    at = health.check(arguments.folder)
    _say(arguments, {"healthy": True, "address": at}, f"the node answers at {at}")
    return 0


def _doctor(arguments: Arguments) -> int:
    import asyncio

    from tilth_node import config, doctor
    from tilth_node.clock import Clock

    settings = config.load(arguments.folder)
    findings = doctor.examine(settings, Clock())
    grade, more = asyncio.run(doctor.isolation(settings))
    findings += more
    well = all(each.holds for each in findings)
    facts = {"well": well, "grade": grade, "findings": [each.as_dict() for each in findings]}
    lines = [str(each) for each in findings]
    _say(arguments, facts, *lines, f"Isolation: grade {grade} of A (best) to D (none).")
    return 0 if well else 1


def _peers(texts: list[str]) -> Mapping[str, str]:
    from tilth_ledger.errors import InvalidInput
    from tilth_node.config import address

    peers: dict[str, str] = {}
    for text in texts:
        organization, separator, at = text.partition("=")
        if not separator:
            raise InvalidInput(
                "--peer is wrong",
                found=repr(text),
                expected="ORGANIZATION=HOST:PORT",
                remedy="For example: --peer hospital-b=node.example:7101",
            )
        address(at)
        peers[organization] = at
    return peers


def _advice(members: int) -> list[str]:
    """What so few members should know of what they cannot do alone."""
    if members == 1:
        return [
            "One member could sign two histories and nobody would see it: have a witness outside",
            "  cosign it ([witnesses] in node.toml; node/README.md, Witnesses outside)",
        ]
    if members == 2:
        return ["Two members stop when either is away: offer a third a vote, it need hold no data"]
    return []


def _network_new(arguments: Arguments) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_ledger.genesis import quorum_columns
    from tilth_node import founding
    from tilth_node.folder import write_file

    if arguments.out.exists():
        raise InvalidInput(
            f"{arguments.out} exists already", remedy="choose another --out; it is never replaced"
        )
    genesis = founding.new_network(
        arguments.name,
        arguments.member,
        arguments.organization,
        q=arguments.q,
        k=arguments.k,
        public=arguments.public,
    )
    write_file(arguments.out, genesis.bytes)
    columns = quorum_columns(len(genesis.members))
    mute = [each.organization for each in genesis.everyone() if each.peer_address is None]
    facts = {
        "genesis": str(arguments.out),
        "net": genesis.net,
        "members": [member.organization for member in genesis.members],
        "organizations": [other.organization for other in genesis.organizations],
        "q": genesis.q,
        "k": genesis.k,
        "columns": [
            {"column": c.column, "q": c.q, "safe_from": c.safe_from, "absent": c.may_be_absent}
            for c in columns
        ],
    }
    table = [
        f"  {c.column:9}  q = {c.q}: safe from {c.safe_from} lying, {c.may_be_absent} may be absent"
        for c in columns
    ]
    _say(
        arguments,
        facts,
        f"{arguments.out}: {len(genesis.members)} members, q = {genesis.q}, k = {genesis.k}",
        *table,
        *(
            f"  {other.organization} has no vote: its node follows"
            for other in genesis.organizations
        ),
        *_advice(len(genesis.members)),
        *([f"Without an address, so they never meet: {', '.join(mute)}"] if len(mute) > 1 else []),
        f"hash  {genesis.net}",
        "Every site confirms this hash with the others, by another way than this file came:",
        "  tilth node join FOLDER " + f"{arguments.out} --hash {genesis.net}",
    )
    return 0


def _join(arguments: Arguments) -> int:
    from tilth_ledger.canonical import sha256_hex
    from tilth_ledger.errors import InvalidInput
    from tilth_node import founding

    if arguments.hash is not None and arguments.genesis.exists():
        found = sha256_hex(arguments.genesis.read_bytes())
        if found != arguments.hash:
            raise InvalidInput(
                "this is not the genesis that was agreed on",
                found=found,
                expected=arguments.hash,
                remedy="get the file again, and compare the hash with the other sites",
            )
    genesis = founding.join(
        arguments.folder, arguments.genesis, newcomer=arguments.newcomer, peers=arguments.peers
    )
    _say(
        arguments,
        {"folder": str(arguments.folder), "net": genesis.net, "name": genesis.name},
        f"{arguments.folder} joined {genesis.name}.",
        f"hash  {genesis.net}",
        "Compare it with the other sites, then: " + f"tilth node run {arguments.folder}",
    )
    return 0


def _run(arguments: Arguments) -> int:
    from tilth_node import running

    return running.run(
        arguments.folder,
        lambda facts: _say(arguments, facts, _ready(facts)),
        arguments.http_address,
    )


def _ready(facts: Mapping[str, Any]) -> str:
    peer = facts["peer_address"] or "none (it dials)"
    places = f"clients at {facts['client_address']}, peers at {peer}"
    if facts["http_address"]:
        places += f", HTTP at {facts['http_address']}"
    return f"ready: {places}, process {facts['pid']}"


def _status(arguments: Arguments) -> int:
    from tilth_node import running

    facts = running.status(arguments.folder)
    _say(arguments, facts, *running.lines(facts))
    return 0


def _say(arguments: Arguments, facts: Mapping[str, Any], *lines: str) -> None:
    text = json.dumps(facts) if arguments.json else "\n".join(lines)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
