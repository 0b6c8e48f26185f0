"""Check a proof bundle offline: the SDK's door to the verifier, which stands apart on purpose.

`tilth/verifier.py` is one file that shares no code with the rest of Tilth: a reader can audit it
alone, or run it with nothing but Python and `cryptography`. No node is asked.
"""

from collections.abc import Sequence
from pathlib import Path

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
) -> Report:
    """What a bundle proves, judged from the genesis file alone.

    `report.ok` says whether it holds; `print(report)` says what is proven, what is not, and the
    weakest link. `trusted` is a checkpoint file that the ledger must extend; `witnesses` are
    verifier keys of cosigners outside the consortium that must have signed.
    """
    return verify_bundle(
        _read(row, "proof bundle"),
        _read(genesis, "genesis file"),
        trusted=None if trusted is None else _read(trusted, "checkpoint"),
        witnesses=tuple(witnesses),
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
