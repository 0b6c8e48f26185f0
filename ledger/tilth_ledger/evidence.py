"""Evidence: two votes of one member that no honest member signs both of.

As a leaf (type 0x0102) it is canonical JSON without a signature of its own: the two it carries say
all. Whoever reads it checks those two and nothing else.

Invariants:
- A pair has one form, whichever vote was seen first; `Evidence.parse(e.leaf(net), net) == e`.
- A leaf that parses is exactly the bytes that any voter would write of its two votes.
- The four kinds of pairs are `PAIRS`; a pair is named by epoch, view, member and kind.

Left to others: looking for pairs (votes), keeping them until they are recorded (docket), the row
(rules_evidence).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.blocks import FINALIZE, NOTARIZE, NULLIFY, Certificate, Kind, Vote
from tilth_ledger.canonical import MAX_INTEGER
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SIGNATURE_BYTES, unhex
from tilth_ledger.leaf import EVIDENCE, Leaf
from tilth_ledger.merkle import HASH_BYTES

MAX_EVIDENCE_BYTES = 2_048

PAIRS = {
    (NOTARIZE, NOTARIZE): "notarize-notarize",
    (NOTARIZE, FINALIZE): "notarize-finalize",
    (NULLIFY, FINALIZE): "nullify-finalize",
    (FINALIZE, FINALIZE): "finalize-finalize",
}
Name = tuple[int, int, int, str]  # epoch, view, member, kind of pair

_FIELDS = {"epoch", "member", "net", "pair", "view", "votes"}
_VOTE_FIELDS = {"block", "kind", "signature"}


def conflict(first: Vote, second: Vote) -> bool:
    """Whether no honest member signs both: the pairs that are evidence."""
    if (first.epoch, first.view, first.member) != (second.epoch, second.view, second.member):
        return False
    if first.kind is NULLIFY or second.kind is NULLIFY:
        return first.kind is FINALIZE or second.kind is FINALIZE
    return first.block != second.block


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two votes that exclude each other, in the order of kind and block."""

    first: Vote
    second: Vote

    @staticmethod
    def of(one: Vote, other: Vote) -> Evidence:
        """The pair in its one form. Raises `InvalidInput` when an honest member may sign both."""
        if not conflict(one, other) or one.view > MAX_INTEGER or one.epoch > MAX_INTEGER:
            raise InvalidInput(
                "two votes are no evidence",
                found=f"{one.kind.name} and {other.kind.name} of members {one.member}, "
                f"{other.member} in views {one.view}, {other.view}",
                expected="votes of one member and view that exclude each other",
            )
        first, second = sorted((one, other), key=lambda vote: (vote.kind, vote.block))
        return Evidence(first, second)

    @property
    def member(self) -> int:
        return self.first.member

    @property
    def pair(self) -> str:
        """Which of the kinds of pairs this is."""
        return PAIRS[self.first.kind, self.second.kind]

    @property
    def name(self) -> Name:
        """What is recorded once."""
        return self.first.epoch, self.first.view, self.first.member, self.pair

    def encode(self) -> bytes:
        """As messages and the journal carry it: both votes."""
        return self.first.encode() + self.second.encode()

    def leaf(self, net: str) -> bytes:
        """The system leaf that records it."""
        value = {
            "net": net,
            "epoch": self.first.epoch,
            "view": self.first.view,
            "member": self.first.member,
            "pair": self.pair,
            "votes": [_written(self.first), _written(self.second)],
        }
        return Leaf(EVIDENCE, canonical.dumps(value)).encode()

    @staticmethod
    def parse(data: bytes, net: str) -> Evidence:
        """The pair in an evidence leaf of this ledger; its signatures are not checked here."""
        leaf = Leaf.decode(data)
        if leaf.type != EVIDENCE:
            raise InvalidInput("leaf is no evidence", found=f"type {leaf.type}", expected=EVIDENCE)
        value = canonical.loads(leaf.payload, max_bytes=MAX_EVIDENCE_BYTES)
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise InvalidInput("evidence has other fields", expected=sorted(_FIELDS))
        if not isinstance(value["votes"], list) or len(value["votes"]) != 2:
            raise InvalidInput("evidence is not of two votes")
        facts = [_number(value[name], name) for name in ("epoch", "view", "member")]
        evidence = Evidence.of(*(_read(vote, *facts) for vote in value["votes"]))
        if evidence.leaf(net) != data:
            raise InvalidInput(
                "evidence is not in its one form, or of another ledger",
                found=str(value["net"])[:64],
                expected=f"its two votes in order, of {net}",
            )
        return evidence


def between(one: Certificate, other: Certificate) -> list[Evidence]:
    """What two certificates of one view prove against the members that signed both."""
    if (one.epoch, one.view) != (other.epoch, other.view):
        return []
    theirs = {vote.member: vote for vote in other.votes()}
    both = ((vote, theirs[vote.member]) for vote in one.votes() if vote.member in theirs)
    return [Evidence.of(mine, their) for mine, their in both if conflict(mine, their)]


def _written(vote: Vote) -> dict[str, str]:
    return {
        "kind": vote.kind.name.lower(),
        "block": vote.block.hex(),
        "signature": vote.signature.hex(),
    }


def _read(value: object, epoch: int, view: int, member: int) -> Vote:
    if not isinstance(value, dict) or value.keys() != _VOTE_FIELDS:
        raise InvalidInput("evidence's vote has other fields", expected=sorted(_VOTE_FIELDS))
    block = unhex(value["block"], HASH_BYTES, "vote's block")
    signature = unhex(value["signature"], SIGNATURE_BYTES, "vote's signature")
    return Vote(_kind(value["kind"]), epoch, view, block, member, signature)


def _kind(word: Any) -> Kind:
    for kind in Kind:
        if word == kind.name.lower():
            return kind
    raise InvalidInput("evidence names no kind of vote", found=repr(word)[:80])


def _number(value: Any, name: str) -> int:
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise InvalidInput(f"evidence's {name} is no number", found=repr(value)[:80])
    return value
