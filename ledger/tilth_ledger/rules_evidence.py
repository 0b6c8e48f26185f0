"""Evidence on the ledger (E1): both signatures hold, each pair once, before the entries of a block.

The row `evidence/<organization>/<epoch>/<view>/<pair>` stays for ever: it is shown beside the
member's results, and expels nobody, since a restored backup looks the same as a liar.

Left to others: the pair and its leaf (evidence), whose keys count (epochs).
"""

from __future__ import annotations

from tilth_ledger.blocks import vote_bytes
from tilth_ledger.epochs import epoch_key, vote_key
from tilth_ledger.errors import InvalidInput, Refused
from tilth_ledger.evidence import Evidence
from tilth_ledger.rows import Overlay, Rows

_REMEDY = "The proposer runs other rules than this node: compare their versions."


def check(rows: Rows, net: bytes, evidence: Evidence) -> None:
    """Raise `InvalidInput` unless a member of the votes' epoch signed both."""
    epoch, view, member, _ = evidence.name
    key = vote_key(rows, epoch, member)
    if key is None:
        raise InvalidInput("evidence is against no member", found=f"{member} of epoch {epoch}")
    for vote in (evidence.first, evidence.second):
        key.verify(vote.signature, vote_bytes(net, vote.kind, epoch, view, vote.block))


def row_key(rows: Rows, evidence: Evidence) -> str:
    """Where a pair stands, if it does."""
    epoch, view, _, pair = evidence.name
    return f"evidence/{accused(rows, evidence)}/{epoch:06d}/{view:016d}/{pair}"


def accused(rows: Rows, evidence: Evidence) -> str:
    """The organization whose votes a pair shows; empty when there was no such member."""
    members = (rows.get(epoch_key(evidence.first.epoch)) or {"members": ()})["members"]
    here = evidence.member < len(members)
    return str(members[evidence.member]["organization"]) if here else ""


def record(
    rows: Overlay, net: str, leaf: bytes, place: tuple[int, int], *, behind_entry: bool
) -> None:
    """Write the row of an evidence leaf at `place` (index, ledger time). Raises `InvalidInput`, or
    `Refused` when the pair stands already or the leaf stands in the wrong place."""
    if behind_entry:
        raise Refused(
            "E1",
            "evidence stands behind an entry",
            expected="evidence before all entries of a block",
            remedy=_REMEDY,
        )
    evidence = Evidence.parse(leaf, net)
    check(rows, bytes.fromhex(net), evidence)
    key = row_key(rows, evidence)
    if (standing := rows.get(key)) is not None:
        raise Refused(
            "E1",
            "this evidence is recorded already",
            found=f"{key} at index {standing['index']}",
            expected="each pair of votes once",
            remedy=_REMEDY,
        )
    epoch, view, _, pair = evidence.name
    facts = {"organization": accused(rows, evidence), "epoch": epoch, "view": view, "pair": pair}
    rows.put(key, facts | {"index": place[0], "time_ms": place[1]})
