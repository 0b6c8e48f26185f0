"""Check a proof bundle offline: the SDK's door to the verifier, which stands apart on purpose.

`tilth/verifier.py` is one file that shares no code with the rest of Tilth: a reader can audit it
alone, or run it with nothing but Python and `cryptography`. No node is asked.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from tilth.errors import InvalidInput
from tilth.verifier import Report
from tilth.verifier import verify as verify_bundle

__all__ = ["Report", "verify"]


def verify(
    row: str | Path,
    *,
    genesis: str | Path,
    trusted: str | Path | None = None,
    witnesses: Sequence[str] = (),
    before: str | Path | None = None,
) -> Report:
    """What a bundle proves, judged from the genesis file alone.

    `report.ok` says whether it holds; `print(report)` says what is proven, what is not, and the
    weakest link. `trusted` is a checkpoint file that the ledger must extend; `witnesses` are
    verifier keys of cosigners outside the consortium that must have signed. `before` is the genesis
    file of the consortium that this one continues, for a bundle of its time: it is believed because
    `genesis` names its hash.
    """
    bundle, own = _read(row, "proof bundle"), _read(genesis, "genesis file")
    old = None if before is None else _read(before, "genesis file")
    continued = _continued(own)
    if old is not None and sha256(old).hexdigest() != continued.get("net"):
        raise InvalidInput(
            "this is not the consortium that the genesis continues",
            found=sha256(old).hexdigest(),
            expected=continued.get("net", "none: this consortium continues no other"),
            remedy="It lies in a member's folder: before/NET/genesis.json",
        )
    report = verify_bundle(
        bundle,
        own if old is None else old,
        trusted=None if trusted is None else _read(trusted, "checkpoint"),
        witnesses=tuple(witnesses),
    )
    if old is not None and report.ok:
        report.not_proven.append(_kept(report.facts, continued))
    elif not report.ok and continued and str(continued["net"]).encode() in bundle:
        report.refusal["remedy"] = (
            "it is of the consortium that this one continues: add --before with its genesis.json,"
            " which lies in a member's folder, in before/NET"
        )
    return report


def _continued(genesis: bytes) -> dict[str, Any]:
    """The checkpoint of the old ledger that a genesis names; empty if it names none."""
    try:
        named = json.loads(genesis).get("continues", {})
    except (ValueError, AttributeError):
        return {}  # the verifier says what is wrong with it
    return dict(named) if isinstance(named, dict) and "net" in named else {}


def _kept(facts: dict[str, Any], continued: dict[str, Any]) -> str:
    size, kept = facts.get("size"), continued.get("size")
    if (size, facts.get("root")) == (kept, continued.get("root")):
        return "what the old ledger recorded after the head that the new consortium continues"
    return (
        f"that its head of {size} entries lies on the branch that was kept, whose last has {kept}:"
        " after a fork compare with that folder (tilth audit before/NET)"
    )


def _read(file: str | Path, what: str) -> bytes:
    path = Path(file)
    if not path.is_file():
        raise InvalidInput(
            f"there is no {what} here",
            found=f"no file {path}",
            expected=f"a {what}",
            remedy="Write a bundle with: tilth row export OBJECTIVE --out row.json"
            if what == "proof bundle"
            else "Ask a node's operator for the consortium's genesis.json.",
        )
    return path.read_bytes()
