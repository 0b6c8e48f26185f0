"""Rules about who votes: propose a change, approve it, and what follows when enough did (M1 to M7).

A change is a row `proposal/<key>`. Each approval is an ordinary entry by an admin of a member; the
proposer's own counts. With the q-th the change takes effect: organizations' rows change, a new
`epoch/<number>` row is written, and a leaf that nobody signs states the same. The old members make
that block final, and with it end their epoch (voting).

Invariants:
- A proposal belongs to one epoch: whatever ends that makes it void, since others vote by then.
- A change is judged when it is proposed and again when it takes effect.
- Voting, working and following are independent: an organization that stops voting keeps its assets
  and its node; one that is removed keeps its rows, and its keys sign nothing any more.

Left to others: that the leaf is the last of its block and empty blocks follow (execution, voting),
what becomes of the tasks of one that is removed (rules_leaving).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tilth_ledger import limits, recent_heads, rules_leaving
from tilth_ledger.context import Context, Op, refuse
from tilth_ledger.epochs import check_copy, listed, newest
from tilth_ledger.errors import InvalidInput
from tilth_ledger.genesis import KEY_NAMES, MLDSA, Organization, parse_member_file
from tilth_ledger.keys import PublicKey
from tilth_ledger.rows import Row

CERTIFYING_ROLES = ("node", "admin")  # identities that every organization has from its first day


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a change would make of the ledger's rows."""

    members: list[str]
    rules_version: int
    changed: dict[str, Row] = field(default_factory=dict)  # organizations' rows
    revoked: list[str] = field(default_factory=list)  # key ids
    added: list[tuple[str, str, str]] = field(default_factory=list)  # organization, role, public
    keys: dict[str, str] | None = None  # of the organization admitted or rotated


def propose(context: Context, op: Op) -> None:
    number, epoch = _voter(context)
    proposal = {
        "owner": context.organization,
        "epoch": number,
        "change": op["change"],
        "q": op["q"],
        "k": op["k"],
        "expires_ms": context.time_ms + limits.PROPOSAL_LIFETIME_MS,
        "index": context.index,
        "approvals": [],
        "status": "open",
    }
    _outcome(context, epoch, proposal)
    context.add("proposal", op["key"], proposal)
    _count(context, op["key"], proposal, number, epoch)


def approve(context: Context, op: Op) -> None:
    number, epoch = _voter(context)
    proposal = context.need("proposal", op["proposal"], "M1")
    _check_open(context, op["proposal"], proposal, number)
    if any(each["organization"] == context.organization for each in proposal["approvals"]):
        refuse(
            "M1",
            "this organization has approved the change already",
            found=context.organization,
            expected="one approval of each member",
            remedy="Other members approve it: `tilth member approve "
            f"{op['proposal'].partition('/')[2][:12]}`.",
        )
    _count(context, op["proposal"], proposal, number, epoch)


def _voter(context: Context) -> tuple[int, Row]:
    """The epoch in force, if the author's organization votes in it and it does not end here."""
    number, epoch = newest(context.rows)
    if context.epoch_end is not None:
        refuse(
            "M2",
            "an entry ends one epoch at most",
            found="a second change after one that takes effect",
            expected="one change at a time",
            remedy="Sign the other one again when the new epoch has begun.",
        )
    if all(member["organization"] != context.organization for member in epoch["members"]):
        refuse(
            "M1",
            "only members decide who votes",
            found=f"{context.organization}, which has no vote in epoch {number}",
            expected=", ".join(member["organization"] for member in epoch["members"][:20]),
            remedy="Hand your member file to a member, whose admin proposes the change.",
        )
    return number, epoch


def _check_open(context: Context, key: str, proposal: Row, number: int) -> None:
    found = proposal["status"]
    if found == "open" and proposal["epoch"] != number:
        found = f"made in epoch {proposal['epoch']}, which ended"
    elif found == "open" and context.time_ms > proposal["expires_ms"]:
        found = f"expired at {proposal['expires_ms']} ms"
    if found != "open":
        refuse(
            "M1",
            "the proposed change is not open any more",
            found=found,
            expected=f"one made in epoch {number}, within {limits.PROPOSAL_LIFETIME_MS} ms",
            remedy="Propose it again: `tilth member propose`.",
        )


def _count(context: Context, key: str, proposal: Row, number: int, epoch: Row) -> None:
    """One more approval; with enough of them the change takes effect (M2)."""
    approval = {"organization": context.organization, "index": context.index}
    proposal = {**proposal, "approvals": [*proposal["approvals"], approval]}
    enough = len(proposal["approvals"]) >= epoch["q"]
    if enough:
        proposal["status"] = "effective"
        _take_effect(context, key, proposal, number + 1, _outcome(context, epoch, proposal))
    context.rows.put(f"proposal/{key}", proposal)


def _take_effect(context: Context, key: str, proposal: Row, number: int, out: _Outcome) -> None:
    for name, row in out.changed.items():
        context.rows.put(f"organization/{name}", row)
    for key_id in out.revoked:
        row = context.need("identity", key_id)
        context.rows.put(f"identity/{key_id}", {**row, "status": "revoked"})
    for organization, role, public in out.added:
        context.rows.put(
            f"identity/{PublicKey.from_hex(public).key_id}",
            {
                "organization": organization,
                "public": public,
                "roles": [role],
                "status": "active",
                "epoch": number,  # whose leaf states it: a proof leans on it
            },
        )
    change = proposal["change"]
    if change["kind"] == "remove":
        rules_leaving.leave(context, change["organization"])
    told = {"kind": change["kind"], "proposal": key}
    for name in out.changed:
        told["organization"] = name
    if out.keys is not None:
        told["keys"] = out.keys
    context.epoch_end = {
        "net": context.net,
        "epoch": number,
        "members": [_listed(context, name) for name in out.members],
        "q": proposal["q"],
        "k": proposal["k"],
        "rules_version": out.rules_version,
        "change": told,
        "entries": [each["index"] for each in proposal["approvals"]],
    }


def _listed(context: Context, name: str) -> Row:
    return listed(context.need("organization", name))


# -- what a change makes


def _outcome(context: Context, epoch: Row, proposal: Row) -> _Outcome:
    """What the change would make of the rows; `Refused` when it may not be."""
    change = proposal["change"]
    names = [member["organization"] for member in epoch["members"]]
    out = _MAKERS[change["kind"]](context, change, _Outcome(names, epoch["rules_version"]))
    q, k, n = proposal["q"], proposal["k"], len(out.members)
    _check_count(n)
    if not (n < 2 * q and q <= k <= n):
        refuse(
            "M3",
            "the numbers do not fit the members after the change",
            found=f"q = {q}, k = {k} of {n} members",
            expected=f"q from {n // 2 + 1} to {n}, k from q to {n}",
            remedy=f"State --q {n // 2 + 1} --k {max(n // 2 + 1, n - (n - 1) // 3)}.",
        )
    same = (names, epoch["q"], epoch["k"], epoch["rules_version"])
    if (out.members, q, k, out.rules_version) == same and not out.changed:
        refuse(
            "M6",
            "the change changes nothing",
            found=f"q = {q}, k = {k}",
            expected="other numbers than now",
            remedy="Look at what is in force: `tilth member list`.",
        )
    return out


def _check_count(n: int) -> None:
    most = limits.MEMBERS_AFTER_A_CHANGE
    if n > most:
        refuse(
            "M3",
            "more members than the leaf that begins an epoch holds keys of",
            found=f"{n} members",
            expected=f"at most {most} that vote; any number of organizations without a vote",
            remedy="Admit it without a vote (leave out --votes), or let another one stop voting.",
        )
    if n < 1:
        refuse(
            "M3",
            "nobody would vote any more",
            found="no member after the change",
            expected="at least one",
            remedy="Let another organization begin to vote first.",
        )


def _admit(context: Context, change: Op, out: _Outcome) -> _Outcome:
    party = _member_of(change["member"])
    row = context.rows.get(f"organization/{party.organization}")
    if row is not None and not row.get("removed"):
        refuse(
            "M6",
            "this organization is admitted already",
            found=party.organization,
            expected="one that is not",
            remedy="To let it vote: `tilth member propose --vote NAME --copy FILE`.",
        )
    _check_new_keys(context, party, set(KEY_NAMES))
    keys = {name: getattr(party.keys, name).hex for name in KEY_NAMES}
    name, votes = party.organization, change["votes"]
    if votes:
        _check_copy(context, change, party.keys.vote)
    return replace(
        out,
        members=[*out.members, name] if votes else out.members,
        changed={name: replace(party, votes=votes).as_dict()},
        added=[(name, role, keys[role]) for role in CERTIFYING_ROLES],
        keys=keys,
    )


def _remove(context: Context, change: Op, out: _Outcome) -> _Outcome:
    name, row = change["organization"], _present(context, change["organization"])
    active = [
        key.removeprefix("identity/")
        for key, identity in context.rows.scan("identity/")
        if identity["organization"] == name and identity["status"] == "active"
    ]
    return replace(
        out,
        members=[each for each in out.members if each != name],
        changed={name: {**row, "votes": False, "removed": True}},
        revoked=active,
    )


def _votes(context: Context, change: Op, out: _Outcome) -> _Outcome:
    name, row = change["organization"], _present(context, change["organization"])
    if row["votes"] is change["votes"]:
        refuse(
            "M6",
            "the change changes nothing",
            found=f"{name} {'votes' if row['votes'] else 'does not vote'} now",
            expected="the other",
            remedy="Look at what is in force: `tilth member list`.",
        )
    if change["votes"]:
        _check_copy(context, change, PublicKey.from_hex(row["keys"]["vote"]))
    without = [each for each in out.members if each != name]
    return replace(
        out,
        members=[*without, name] if change["votes"] else without,
        changed={name: {**row, "votes": change["votes"]}},
    )


def _rotate(context: Context, change: Op, out: _Outcome) -> _Outcome:
    party = _member_of(change["member"])
    name, row = party.organization, _present(context, party.organization)
    keys = {purpose: getattr(party.keys, purpose).hex for purpose in KEY_NAMES}
    new = {purpose for purpose in KEY_NAMES if keys[purpose] != row["keys"][purpose]}
    mldsa = {} if party.cosign_mldsa is None else {MLDSA: party.cosign_mldsa.hex}
    same = party.tls_authority == row["tls_authority"] and mldsa.get(MLDSA) == row.get(MLDSA)
    if not new and same:
        refuse(
            "M6",
            "the change changes nothing",
            found=f"the keys and the TLS authority that {name} has",
            expected="a member file with at least one other",
            remedy=f"Make new keys first, at {name}: `tilth node rotate FOLDER`.",
        )
    _check_new_keys(context, party, new)
    roles = [role for role in CERTIFYING_ROLES if role in new]
    return replace(
        out,
        changed={
            name: {key: value for key, value in row.items() if key != MLDSA}
            | {"keys": keys, "tls_authority": party.tls_authority}
            | mldsa
        },
        revoked=[PublicKey.from_hex(row["keys"][role]).key_id for role in roles],
        added=[(name, role, keys[role]) for role in roles],
        keys=keys,
    )


def _quorum(context: Context, change: Op, out: _Outcome) -> _Outcome:
    return out


def _rules(context: Context, change: Op, out: _Outcome) -> _Outcome:
    version = change["rules_version"]
    if version <= out.rules_version:
        refuse(
            "M6",
            "the rules' version only rises",
            found=version,
            expected=f"more than {out.rules_version}",
            remedy="Look at what is in force: `tilth member list`.",
        )
    return replace(out, rules_version=version)


_MAKERS = {
    "admit": _admit,
    "remove": _remove,
    "votes": _votes,
    "rotate": _rotate,
    "quorum": _quorum,
    "rules": _rules,
}


# -- proofs


def _member_of(text: str) -> Organization:
    """The organization of a member file, whose every key signed it (M4)."""
    try:
        return parse_member_file(text.encode())
    except InvalidInput as error:
        refuse(
            "M4",
            f"the member file proves nothing: {error.message}",
            found=error.found,
            expected=error.expected or "a file that each key in it signed",
            remedy="Ask its organization to hand over its member.json again.",
        )


def _present(context: Context, name: str) -> Row:
    row = context.rows.get(f"organization/{name}")
    if row is None or row.get("removed"):
        refuse(
            "M6",
            "there is no such organization",
            found=name,
            expected="one that is admitted",
            remedy="Look at them: `tilth member list`.",
        )
    return row


def _check_new_keys(context: Context, party: Organization, new: set[str]) -> None:
    """None of an organization's keys for the `new` purposes is anybody's, or was ever an
    identity's (M4)."""
    stated = {getattr(party.keys, name).hex: name for name in KEY_NAMES if name in new}
    for _, row in context.rows.scan("organization/"):
        for purpose, key in row["keys"].items():
            if key in stated:
                _refuse_key(stated[key], key, f"{row['organization']}'s {purpose} key")
    for role in CERTIFYING_ROLES:
        public = getattr(party.keys, role)
        if role in new and context.rows.get(f"identity/{public.key_id}") is not None:
            _refuse_key(role, public.hex, "registered before")


def _refuse_key(purpose: str, key: str, found: str) -> None:
    refuse(
        "M4",
        f"the {purpose} key is not a new one",
        found=f"{key[:16]}, {found}",
        expected="a key that was never used",
        remedy="Make new keys and hand over the new member file.",
    )


def _check_copy(context: Context, change: Op, key: PublicKey) -> None:
    """Who begins to vote has signed that it holds the tree at a recent size (M5)."""
    stated: dict[str, Any] | None = change.get("copy")
    oldest = max(min(1, context.index), context.index - limits.RECENT_COPY_LEAVES)
    expected = f"a size from {oldest} to {context.index}, signed with its vote key"
    remedy = "Let its node catch up, then state it again: `tilth node copy FOLDER` on its machine."
    if stated is None or not oldest <= stated["size"] <= context.index:
        found: object = "none" if stated is None else f"size {stated['size']}"
        refuse(
            "M5",
            "who begins to vote must hold a recent copy of the ledger",
            found=found,
            expected=expected,
            remedy=remedy,
        )
    root = recent_heads.root_at(context.rows, stated["size"])
    if stated["root"] != root:
        refuse(
            "M5",
            "the newcomer's copy is not of this ledger, or of a size whose root no row tells",
            found=f"root {stated['root'][:16]} at size {stated['size']}",
            expected=f"root {root[:16]}" if root else f"a size of {recent_heads.PREFIX}...",
            remedy=remedy,
        )
    try:
        check_copy(bytes.fromhex(context.net), stated, key)
    except InvalidInput as error:
        refuse("M5", error.message, found=error.found, expected=expected, remedy=remedy)
