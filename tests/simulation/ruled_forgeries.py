"""Entries about who votes that the rules forbid, whenever they come: each is handed in at random
moments, and none may ever stand on the ledger.

Left to others: that none does (ruled_checker).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ruled_script import MEMBERS, NEWCOMER, SITES, STRANGER, file_of, keys_of

from tilth_ledger import canonical
from tilth_ledger.epochs import state_copy

if TYPE_CHECKING:
    from ruled_changes import Council, Roster

UNKNOWN = "m6"  # nobody's node
EVERYONE = (*MEMBERS, NEWCOMER, STRANGER)


def _newcomers(council: Council, roster: Roster) -> str | None:
    outside = [name for name in roster.listed if name not in roster.members]
    return council.dice.choice(outside) if outside else None


def copy_of_another(council: Council, roster: Roster) -> bytes | None:
    """Somebody else says that the newcomer holds the ledger."""
    name = _newcomers(council, roster)
    other = keys_of("m0", roster.generation("m0"))["vote"]
    copy = None if name is None else council.copy_of(name, other)
    change = {"kind": "votes", "organization": name, "votes": True, "copy": copy}
    return None if copy is None else _propose(council, roster, change)


def copy_of_another_tree(council: Council, roster: Roster) -> bytes | None:
    """The newcomer holds something else, and says so."""
    name = _newcomers(council, roster)
    if name is None:
        return None
    key = keys_of(name, roster.generation(name))["vote"]
    held = council.copy_of(name, key)
    if held is None:
        return None
    copy = state_copy(council.net, held["size"], bytes(32), key)
    change = {"kind": "votes", "organization": name, "votes": True, "copy": copy}
    return _propose(council, roster, change)


def keys_of_nobody(council: Council, roster: Roster) -> bytes | None:
    """A member file states a vote key that did not sign it."""
    change = {"kind": "admit", "member": _unproven(file_of(UNKNOWN)), "votes": False}
    return _propose(council, roster, change)


def rotated_to_keys_of_nobody(council: Council, roster: Roster) -> bytes | None:
    """So does a rotation."""
    name = council.dice.choice(roster.members)
    file = file_of(name, roster.generation(name) + 1)
    return _propose(council, roster, {"kind": "rotate", "member": _unproven(file)})


def half_a_quorum(council: Council, roster: Roster) -> bytes | None:
    """Two halves of the members could go on without each other."""
    n = len(roster.members)
    return _propose(council, roster, {"kind": "quorum"}, n // 2, n)


def fewer_cosigners_than_voters(council: Council, roster: Roster) -> bytes | None:
    """A head would be complete with less than what makes a block final."""
    q = int(roster.row["q"])
    return _propose(council, roster, {"kind": "quorum"}, q, q - 1)


def entry_of_one_that_left(council: Council, roster: Roster) -> bytes | None:
    """The admin of a removed organization makes somebody known."""
    known = [name for name in EVERYONE if roster.generation(name) >= 0]
    left = [name for name in known if name not in roster.listed]
    if not left:
        return None
    name = council.dice.choice(left)
    public = council.dice.randbytes(32).hex()
    operation = {"op": "identity.add", "public": public, "roles": ["scientist"]}
    return council.entry(name, roster.admin(name), operation)


def approval_by_an_old_key(council: Council, roster: Roster) -> bytes | None:
    """The key that an admin had before the last rotation approves."""
    rotated = [name for name in roster.members if name not in SITES and roster.generation(name) > 0]
    return _approve(council, roster, rotated)


Forgery = Callable[["Council", "Roster"], bytes | None]
OLD_KEYS: tuple[Forgery, ...] = (entry_of_one_that_left, approval_by_an_old_key)
FORGERIES: tuple[Forgery, ...] = (
    copy_of_another,
    copy_of_another_tree,
    keys_of_nobody,
    rotated_to_keys_of_nobody,
    half_a_quorum,
    fewer_cosigners_than_voters,
    *OLD_KEYS,
)


def _propose(
    council: Council, roster: Roster, change: Any, q: int | None = None, k: int | None = None
) -> bytes:
    author = council.dice.choice(roster.members)
    n = len(roster.members) + bool(change.get("votes"))
    operation = {
        "op": "member.propose",
        "key": f"{author}/{council.dice.randbytes(16).hex()}",
        "change": change,
        "q": n - 1 if q is None else q,
        "k": n if k is None else k,
    }
    return council.entry(author, roster.admin(author), operation)


def _approve(council: Council, roster: Roster, names: list[str]) -> bytes | None:
    """An open proposal, with the key that one of these had."""
    proposals = (
        key.removeprefix("proposal/")
        for key, row in roster.rows.scan("proposal/")
        if (row["status"], row["epoch"]) == ("open", roster.epoch)
    )
    proposal = next(proposals, None)
    if proposal is None or not names:
        return None
    name = council.dice.choice(names)
    key = keys_of(name, roster.generation(name) - 1)["admin"]
    return council.entry(name, key, {"op": "member.approve", "proposal": proposal})


def _unproven(file: str) -> str:
    """A member file where another key signed in the name of the vote key."""
    value = json.loads(file)
    value["signatures"]["vote"] = value["signatures"]["log"]
    return canonical.dumps(value).decode()
