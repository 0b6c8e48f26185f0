"""Policies (c2sp.org/tlog-policy): which logs and cosigners a reader trusts, and how many.

A consortium publishes one for each epoch: a `log` line for each member's log key, a `witness` line
for each member's cosign key, `group members k ...` and `quorum members`.

Invariants:
- Parsing follows the specification to the letter: octets, only tab and space between items,
  names defined before they are used, each a group's member at most once, no key twice, one quorum.
- A checkpoint holds under a policy when one of its logs signed it under its own origin, and the
  quorum cosigned it; every line of a key that the policy lists must verify.

Left to others: which keys a consortium has (genesis, epochs).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tilth_ledger.checkpoints import Checkpoint, cosigner_name, verifier
from tilth_ledger.epochs import Signers
from tilth_ledger.errors import InvalidInput
from tilth_ledger.notes import (
    COSIGNATURE,
    ED25519,
    MLDSA_COSIGNATURE,
    Opened,
    VerifierKey,
    open_note,
)

MAX_POLICY_BYTES = 4 << 20
MAX_ITEMS = 1_024  # of logs, of witnesses and of groups
NONE = b"none"
COSIGNERS = (COSIGNATURE, MLDSA_COSIGNATURE)

_NUMBER = re.compile(rb"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Group:
    """Witnessed when `threshold` of its members are."""

    threshold: int
    members: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy; names are octets, as the specification has them."""

    logs: tuple[VerifierKey, ...]
    witnesses: dict[bytes, VerifierKey]
    groups: dict[bytes, Group]
    quorum: bytes

    @staticmethod
    def parse(data: bytes) -> Policy:
        """The policy in `data`. Raises `InvalidInput` with the line that is wrong."""
        if len(data) > MAX_POLICY_BYTES:
            raise InvalidInput("policy is too large", found=len(data), expected=MAX_POLICY_BYTES)
        if found := re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", data):
            raise InvalidInput("policy holds a control character", found=f"{found[0][0]:#04x}")
        draft = _Draft()
        for line in data.split(b"\n"):
            items = [item for item in re.split(rb"[ \t]+", line) if item]
            if items and not items[0].startswith(b"#"):
                draft.add(items)
        return draft.policy()

    def check(self, note: bytes) -> Checkpoint:
        """The checkpoint in `note`, if it holds under this policy. Raises `InvalidInput`."""
        keys = (*self.logs, *self.witnesses.values())
        opened = open_note(note, [verifier(key) for key in keys])
        checkpoint = Checkpoint.parse(opened.text)
        names = {key.name for key in self.logs if opened.by(key)}
        if checkpoint.origin not in names:
            raise InvalidInput(
                "checkpoint is signed by no log of the policy",
                found=f"origin {checkpoint.origin}, signed as {', '.join(sorted(names)) or '-'}",
            )
        if not self.satisfied(opened):
            raise InvalidInput(
                "checkpoint lacks cosignatures",
                found=", ".join(line.name for line in opened.signed),
                expected=f"quorum {self.quorum.decode(errors='replace')}",
            )
        return checkpoint

    def satisfied(self, opened: Opened) -> bool:
        """Whether the quorum cosigned."""
        present = {name for name, key in self.witnesses.items() if opened.by(key)} | {NONE}
        for name, group in self.groups.items():  # members stand before their group
            if sum(member in present for member in group.members) >= group.threshold:
                present.add(name)
        return self.quorum in present


class _Draft:
    """A policy while its lines are read."""

    def __init__(self) -> None:
        self.logs: list[VerifierKey] = []
        self.witnesses: dict[bytes, VerifierKey] = {}
        self.groups: dict[bytes, Group] = {}
        self.quorum: bytes | None = None
        self._grouped: set[bytes] = set()

    def add(self, items: list[bytes]) -> None:
        """Take one line, which is neither empty nor a comment."""
        match items:
            case [b"log", key] | [b"log", key, _]:
                self._add_log(_key(key))
            case [b"witness", name, key] | [b"witness", name, key, _]:
                self._add_witness(name, _key(key))
            case [b"group", name, threshold, first, *more]:
                self._add_group(name, threshold, (first, *more))
            case [b"quorum", name] if self.quorum is None:
                if name != NONE:
                    self._expect_defined(name)
                self.quorum = name
            case _:
                raise InvalidInput("policy has a line that is wrong", found=_shown(*items))
        if max(len(self.logs), len(self.witnesses), len(self.groups)) > MAX_ITEMS:
            raise InvalidInput("policy is too long", expected=f"{MAX_ITEMS} of each kind of line")

    def policy(self) -> Policy:
        if self.quorum is None:
            raise InvalidInput("policy has no quorum", expected="exactly one quorum line")
        return Policy(tuple(self.logs), self.witnesses, self.groups, self.quorum)

    def _add_log(self, key: VerifierKey) -> None:
        if any(key.key == other.key for other in self.logs):
            raise InvalidInput("policy lists a log's key twice", found=str(key)[:80])
        self.logs.append(key)

    def _add_witness(self, name: bytes, key: VerifierKey) -> None:
        self._expect_new(name)
        if key.type not in COSIGNERS:
            raise InvalidInput(
                "policy lists a witness whose key cannot cosign",
                found=f"{_shown(name)}: type {key.type:#04x}",
                expected="type 0x04 or 0x06",
            )
        if any(key.key == other.key for other in self.witnesses.values()):
            raise InvalidInput("policy lists a witness' key twice", found=_shown(name))
        self.witnesses[name] = key

    def _add_group(self, name: bytes, threshold: bytes, members: tuple[bytes, ...]) -> None:
        self._expect_new(name)
        for member in members:
            self._expect_defined(member)
            if member in self._grouped:
                raise InvalidInput("policy groups a name twice", found=_shown(member))
            self._grouped.add(member)
        words = {b"any": 1, b"all": len(members)}
        if threshold not in words and not _NUMBER.fullmatch(threshold):
            raise InvalidInput("policy has a wrong threshold", found=_shown(threshold))
        least = words[threshold] if threshold in words else int(threshold)
        if not 1 <= least <= len(members):
            raise InvalidInput(
                "policy has an impossible threshold", found=least, expected=f"1 to {len(members)}"
            )
        self.groups[name] = Group(least, members)

    def _expect_new(self, name: bytes) -> None:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise InvalidInput("policy defines a name twice, or `none`", found=_shown(name))

    def _expect_defined(self, name: bytes) -> None:
        if name not in self.witnesses and name not in self.groups:
            raise InvalidInput("policy uses a name before it is defined", found=_shown(name))


def write(
    origin: str, signers: Signers, heading: str = "", outside: Sequence[VerifierKey] = ()
) -> bytes:
    """A consortium's policy: signed by any member's log key, cosigned by k of the members.

    Witnesses `outside` are named and not counted: whether they must sign is the reader's choice.
    """
    members = signers.members
    logs = [VerifierKey(origin, ED25519, member.log.raw) for member in members]
    names = [cosigner_name(origin, member.organization) for member in members]
    keys = [
        VerifierKey(name, COSIGNATURE, member.cosign.raw)
        for name, member in zip(names, members, strict=True)
    ]
    lines = [f"# {line}" for line in heading.splitlines()]
    lines += [f"log {key}" for key in logs]
    lines += [f"witness {key.name} {key}" for key in keys]
    lines += [f"witness {key.name}/{key.type:#04x} {key}" for key in outside]
    lines += [f"group members {signers.k} {' '.join(names)}", "quorum members"]
    data = "".join(f"{line}\n" for line in lines).encode()
    Policy.parse(data)
    return data


def _key(data: bytes) -> VerifierKey:
    try:
        return VerifierKey.parse(data.decode())
    except UnicodeDecodeError:
        raise InvalidInput("policy has a key that is not UTF-8", found=_shown(data)) from None


def _shown(*items: bytes) -> str:
    return b" ".join(items).decode(errors="replace")[:200]
