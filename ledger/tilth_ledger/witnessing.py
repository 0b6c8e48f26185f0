"""Cosignatures of witnesses outside the consortium (c2sp.org/tlog-witness): what is asked and read.

A witness sees one log grow: it is told a checkpoint and a proof that it extends the last one that
it cosigned, and answers with signature lines. What is bytes of that stands here.

Invariants:
- A line counts when a configured key of the witness signed exactly this checkpoint; lines of
  unknown keys are ignored, and one of a known key that does not verify spoils the answer.
- An answer is read within bounds, and in one way only.

Left to others: whom to ask and when, and HTTP (the node's witnesses), where lines stand in a note
(cosigning).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

from tilth_ledger.checkpoints import MAX_SIZE, verifier
from tilth_ledger.errors import InvalidInput
from tilth_ledger.notes import MAX_LINES, Line, Note, VerifierKey

MAX_PROOF_LINES = 63
MAX_ANSWER_BYTES = 64 << 10

_SIZE = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


def request(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The body of `add-checkpoint`: the size that the witness cosigned last, the consistency proof
    from there (none from 0), and the signed checkpoint."""
    if len(proof) > MAX_PROOF_LINES or (proof and not old):
        raise InvalidInput(
            "no witness takes this proof",
            found=f"{len(proof)} hashes from size {old}",
            expected=f"at most {MAX_PROOF_LINES}, and none from size 0",
        )
    lines = [f"old {old}", *(b64encode(step).decode() for step in proof), ""]
    return "".join(f"{line}\n" for line in lines).encode() + checkpoint


def read_size(body: bytes) -> int:
    """The size in an answer 409: the last one that the witness cosigned."""
    found = _SIZE.fullmatch(body)
    if found is None or int(found[1]) > MAX_SIZE:
        raise InvalidInput(
            "the answer states no size", found=repr(body[:40]), expected="a number and a newline"
        )
    return int(found[1])


def read_lines(
    body: bytes, checkpoint: bytes, keys: Iterable[VerifierKey]
) -> dict[VerifierKey, bytes]:
    """The signatures in an answer 200 by keys of the witness, verified on the checkpoint.

    Raises `InvalidInput` when there is none, or when one does not verify.
    """
    text = Note.decode(checkpoint).text
    known = {(key.name, key.id): key for key in keys}
    found: dict[VerifierKey, bytes] = {}
    for line in _lines(body):
        key = known.get((line.name, line.key_id))
        if key is not None:
            verifier(key).verify(text, line.signature)
            found[key] = line.signature
    if not found:
        raise InvalidInput(
            "the answer holds no line of the witness' keys",
            found=repr(body[:80]),
            expected=", ".join(str(key)[:60] for key in known.values()),
        )
    return found


def _lines(body: bytes) -> list[Line]:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("the answer is not UTF-8", found=str(error)) from None
    if len(body) > MAX_ANSWER_BYTES or not text.endswith("\n"):
        raise InvalidInput(
            "the answer is not lines of a note",
            found=f"{len(body)} bytes",
            expected=f"lines, up to {MAX_ANSWER_BYTES} bytes",
        )
    lines = text[:-1].split("\n")
    if len(lines) > MAX_LINES:
        raise InvalidInput("the answer has too many lines", found=len(lines), expected=MAX_LINES)
    return [Line.parse(line) for line in lines]
