"""A node as a process: lock, logs, signals, and the file that says it is ready.

- One process for one folder; a second one is refused before it opens anything.
- SIGTERM and SIGINT stop it cleanly; an error that the ledger cannot survive stops it with exit
  code 1.
- run/ready.json holds the bound addresses while the node serves, and is gone when it has stopped.
"""

import asyncio
import gc
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tilth_ledger import forks
from tilth_ledger.blocks import Vote, vote_bytes
from tilth_ledger.canonical import dumps, loads
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import Genesis, Organization
from tilth_ledger.journal_records import Forgotten, Forked, decode_record
from tilth_node import config, founding, logs
from tilth_node.errors import StorageFailed
from tilth_node.folder import Folder, write_file
from tilth_node.node import Node
from tilth_node.scrub_state import load
from tilth_node.storage import journal
from tilth_node.storage.ledger_store import peek, peek_missing, peek_rows

Facts = dict[str, Any]
GARBAGE = (5_000, 20, 20)  # a block of entries makes thousands of objects that live on


def run(path: Path, ready: Callable[[Facts], None], http_address: str | None = None) -> int:
    """Run the node of a folder until a signal; calls `ready` once it serves.

    `http_address` takes the place of the one in node.toml.
    """
    settings = config.load(path)
    if http_address is not None:
        config.address(http_address)
        settings = replace(settings, http_listen=http_address)
    logs.configure(level=settings.log_level, lines=settings.log_lines)
    from tilth_node.assemble import build  # imports every part: `status` needs none of them

    folder = Folder(path)
    with folder.locked():
        for old in (folder.ready, folder.notices):  # of a process that was killed
            old.unlink(missing_ok=True)
        tell: Callable[[Facts], None] = ready
        while (facts := asyncio.run(_serve(build(settings), folder, tell))) is not None:
            # A snapshot waits: the same process goes on with it, at the same addresses.
            settings = replace(
                settings,
                client_listen=facts["client_address"],
                peer_listen=facts["peer_address"],
                http_listen=facts["http_address"],
            )
            tell = _silent
    return 0


def status(path: Path) -> Facts:
    """What a folder holds, read without disturbing a node that runs on it."""
    settings = config.load(path)
    folder = Folder(path)
    genesis = founding.load_genesis(folder)
    facts: Facts = {
        "organization": settings.organization,
        "net": genesis.net,
        "votes": any(settings.organization == each.organization for each in genesis.members),
    }
    if folder.database.exists():
        header = peek(folder.database)
        facts["size"] = 0 if header is None else header.size
        facts["height"] = 0 if header is None else header.height
        facts["root"] = "" if header is None else header.root.hex()
        mine = f"organization/{settings.organization}"
        rows = dict(peek_rows(folder.database, mine))
        facts["votes"] = bool(rows.get(mine, {}).get("votes"))
        if rows.get(mine, {}).get("removed"):
            facts["removed"] = "the members removed this organization; they may admit it again"
        facts |= _epoch(folder.database)
        if missing := peek_missing(folder.database):
            facts["missing"] = f"the first {missing} leaves: fetched from other nodes while it runs"
        facts["evidence"] = [row for _, row in peek_rows(folder.database, "evidence/")]
    facts |= _never_again(folder, genesis, settings.organization)
    facts["running"] = _runs(folder)
    if folder.ready.exists() and not facts["running"]:
        facts["ended"] = "without a word, as by a crash or a kill; its log and the system's say why"
    if facts["running"] and folder.notices.exists():
        facts |= loads(folder.notices.read_bytes(), max_bytes=1 << 20)
    facts["disk"] = _disk(folder)
    if facts["running"] and folder.waiting.exists():
        facts["waiting"] = loads(folder.waiting.read_bytes(), max_bytes=1 << 20)
    return facts


def _disk(folder: Folder) -> str:
    """When it was last compared with what was written, and how it was."""
    state = load(folder.scrub)
    if not state.rows_ms:
        return f"not looked through yet: tilth node scrub {folder.path}"
    read = f"all read by {_moment(state.all_ms)}, " if state.all_ms else ""
    left = f", {state.left} of them still there" if state.left else ""
    return f"{read}rows by {_moment(state.rows_ms)}: {state.found} damages{left}"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _epoch(database: Path) -> Facts:
    """Who votes, as this copy of the ledger has it."""
    rows = peek_rows(database, "epoch/")
    if not rows:
        return {}
    key, row = rows[-1]
    names = [member["organization"] for member in row["members"]]
    facts = {"epoch": int(key.removeprefix("epoch/")), "rules_version": row["rules_version"]}
    return facts | {"members": f"{', '.join(names)}; {row['q']} must vote, {row['k']} certify"}


def _runs(folder: Folder) -> bool:
    """Whether the process that wrote the folder's ready file is still there."""
    if not folder.ready.exists():
        return False
    pid = int(loads(folder.ready.read_bytes(), max_bytes=1 << 16)["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _never_again(folder: Folder, genesis: Genesis, organization: str) -> Facts:
    """What the journal says that no restart undoes: a fork, a vote that was forgotten."""
    file = folder.journal / journal.NAME
    if not file.exists():
        return {}
    facts: Facts = {}
    try:
        records = [decode_record(body) for body in journal.read(file, file.read_bytes()).bodies]
    except StorageFailed as error:
        return {"damaged": str(error)}
    for record in records:
        if isinstance(record, Forked):
            facts["halted"] = f"the ledger has forked: it is decided here no more. {forks.REMEDY}"
        if isinstance(record, Forgotten) and _counts(record.vote, folder, genesis, organization):
            facts["forgotten"] = (
                f"its vote of view {record.vote.view}: it does not vote with this key again."
                " Replace it: tilth member rotate"
            )
    return facts


def _counts(vote: Vote, folder: Folder, genesis: Genesis, organization: str) -> bool:
    """Whether a forgotten vote was signed with the key that votes now: another key cures it."""
    mine = f"organization/{organization}"
    rows = dict(peek_rows(folder.database, mine)) if folder.database.exists() else {}
    listed = {each.organization: each for each in genesis.everyone()}
    party = Organization.from_row(rows[mine]) if mine in rows else listed.get(organization)
    if party is None:
        return False
    try:
        party.keys.vote.verify(
            vote.signature,
            vote_bytes(genesis.net_bytes, vote.kind, vote.epoch, vote.view, vote.block),
        )
    except InvalidInput:
        return False
    return True


def lines(facts: Facts) -> list[str]:
    """What `status` found, for people; a list has a line for each."""
    said: list[str] = []
    for name, value in facts.items():
        for each in value if isinstance(value, list) else [value]:
            text = (
                ", ".join(f"{key} {it}" for key, it in each.items())
                if isinstance(each, dict)
                else each
            )
            said.append(f"{name:16} {text}")
    return said


async def _serve(node: Node, folder: Folder, ready: Callable[[Facts], None]) -> Facts | None:
    """Run a node to its end; the facts that it told if it is to be started anew."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    try:
        await node.start()
        facts: Facts = {
            "client_address": node.client_address,
            "peer_address": node.peer_address,
            "http_address": node.http_address,
            "pid": os.getpid(),
        }
        # What stands now stays: looking through it again for garbage would hold votes up by 40 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        folder.run.mkdir(mode=0o700, exist_ok=True)
        write_file(folder.ready, dumps(facts))
        ready(facts)
        return facts if await node.until(stop) else None
    finally:
        folder.ready.unlink(missing_ok=True)
        await node.stop()


def _silent(_facts: Facts) -> None:
    """Nobody waits for it a second time."""
