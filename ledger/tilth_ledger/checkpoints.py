"""Checkpoints of the tree and the signatures on them (c2sp.org/tlog-checkpoint, tlog-cosignature).

A checkpoint is the text of a note: origin, size, root, one to a line. Three kinds of lines sign it:
0x01 by a member's log key (named as the origin), 0x04 by its cosign key and 0x06 by its ML-DSA-44
key (both named `<origin>/<member>`). A cosignature carries the time at which it was made.

Invariants:
- `Checkpoint.parse(t).text == t` for every text that parses. Ours have no extension lines.
- A 0x04 line signs `cosignature/v1`, its time and the whole text; a 0x06 line signs a
  `cosigned_message` with its own name, its time, origin, 0, size and root. The latter says nothing
  of extension lines, so a text with such lines is refused under it.

Left to others: when to sign what (cosigning), whose keys count (policies).
"""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey
from tilth_ledger.merkle import HASH_BYTES
from tilth_ledger.mldsa import MLDSA_SIGNATURE_BYTES, MlDsaKey, MlDsaSigningKey
from tilth_ledger.notes import (
    COSIGNATURE,
    ED25519,
    MLDSA_COSIGNATURE,
    Line,
    NoteVerifier,
    Verifier,
    VerifierKey,
    unbase64,
)

MAX_TIME = 2**63 - 1  # seconds since 1970
MAX_SIZE = 2**63 - 1
TIME_BYTES = 8
# Bytes of a line's signature after the key id, by type.
SIGNATURE_LENGTHS = {
    ED25519: SIGNATURE_BYTES,
    COSIGNATURE: TIME_BYTES + SIGNATURE_BYTES,
    MLDSA_COSIGNATURE: TIME_BYTES + MLDSA_SIGNATURE_BYTES,
}

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_LABEL = b"subtree/v1\n\0"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the note's text says of the tree."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check(bool(self.origin) and "\n" not in self.origin, "origin", self.origin)
        _check(0 <= self.size <= MAX_SIZE, "size", self.size)
        _check(len(self.root) == HASH_BYTES, "root", self.root.hex())
        _check(all(x and "\n" not in x for x in self.extensions), "extension", self.extensions)

    @property
    def text(self) -> str:
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)

    @staticmethod
    def parse(text: str) -> Checkpoint:
        """The checkpoint in a note's text. Raises `InvalidInput`."""
        *lines, end = text.split("\n")
        if end or len(lines) < 3:
            raise InvalidInput(
                "malformed checkpoint", found=repr(text)[:80], expected="origin, size, root"
            )
        origin, size, root, *extensions = lines
        _check(bool(_SIZE.fullmatch(size)), "size", size)
        return Checkpoint(origin, int(size), unbase64(root, "root"), tuple(extensions))


def origin_of(name: str, net: str) -> str:
    """The origin of a consortium's checkpoints: `<genesis name>/<first 16 hex of net>`."""
    return f"{name}/{net[:16]}"


def cosigner_name(origin: str, member: str) -> str:
    """The name of a member's cosign keys."""
    return f"{origin}/{member}"


def cosigned_text(text: str, time: int) -> bytes:
    """What an Ed25519 cosignature signs: header line, time line, the whole text."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosigned_message(name: str, time: int, origin: str, start: int, end: int, root: bytes) -> bytes:
    """What an ML-DSA-44 cosignature signs of the subtree [start, end): `cosigned_message`."""
    if not 0 <= start <= end <= MAX_SIZE or (start and time):
        raise InvalidInput(
            "cosignature of an impossible subtree", found=f"[{start}, {end}) at time {time}"
        )
    _check_time(time)
    _check(len(root) == HASH_BYTES, "root", root.hex())
    parts = (_LABEL, _short(name), struct.pack(">Q", time), _short(origin))
    return b"".join((*parts, struct.pack(">QQ", start, end), root))


@dataclass(frozen=True, slots=True)
class CosignatureVerifier:
    """Signature type 0x04: timestamped Ed25519."""

    key: VerifierKey

    def verify(self, text: str, signature: bytes) -> None:
        time, signed = split_time(signature, SIGNATURE_BYTES)
        PublicKey(self.key.key).verify(signed, cosigned_text(text, time))


@dataclass(frozen=True, slots=True)
class MlDsaVerifier:
    """Signature type 0x06: timestamped ML-DSA-44."""

    key: VerifierKey

    def verify(self, text: str, signature: bytes) -> None:
        checkpoint = Checkpoint.parse(text)
        if checkpoint.extensions:
            raise InvalidInput(
                "ML-DSA-44 cosignatures do not cover extension lines",
                found=checkpoint.extensions[0][:80],
                expected="a checkpoint without",
            )
        head = (checkpoint.origin, 0, checkpoint.size, checkpoint.root)
        self.verify_subtree(*head, signature)

    def verify_subtree(
        self, origin: str, start: int, end: int, root: bytes, signature: bytes
    ) -> None:
        """Raise `InvalidInput` unless this key cosigned the subtree [start, end)."""
        time, signed = split_time(signature, MLDSA_SIGNATURE_BYTES)
        message = cosigned_message(self.key.name, time, origin, start, end, root)
        MlDsaKey(self.key.key).verify(signed, message)


_VERIFIERS: dict[int, Callable[[VerifierKey], Verifier]] = {
    ED25519: NoteVerifier,
    COSIGNATURE: CosignatureVerifier,
    MLDSA_COSIGNATURE: MlDsaVerifier,
}


def verifier(key: VerifierKey) -> Verifier:
    """What checks signatures of a key of any type that we know."""
    return _VERIFIERS[key.type](key)


def cosign(name: str, key: SigningKey, text: str, time: int) -> Line:
    """A member's 0x04 line on a checkpoint."""
    _check_time(time)
    public = VerifierKey(name, COSIGNATURE, key.public.raw)
    signature = key.sign(cosigned_text(Checkpoint.parse(text).text, time))
    return Line(name, public.id, time.to_bytes(TIME_BYTES) + signature)


def cosign_mldsa(name: str, key: MlDsaSigningKey, text: str, time: int) -> Line:
    """A member's 0x06 line on a checkpoint."""
    head = Checkpoint.parse(text)
    _check(not head.extensions, "extension", head.extensions)
    public = VerifierKey(name, MLDSA_COSIGNATURE, key.public.raw)
    message = cosigned_message(name, time, head.origin, 0, head.size, head.root)
    return Line(name, public.id, time.to_bytes(TIME_BYTES) + key.sign(message))


def split_time(signature: bytes, length: int) -> tuple[int, bytes]:
    """Time and signature of a `timestamped_signature`."""
    if len(signature) != TIME_BYTES + length:
        raise InvalidInput(
            "cosignature has the wrong length", found=len(signature), expected=TIME_BYTES + length
        )
    time = int.from_bytes(signature[:TIME_BYTES])
    _check_time(time)
    return time, signature[TIME_BYTES:]


def _short(text: str) -> bytes:
    """`opaque <1..2^8-1>`."""
    data = text.encode()
    if not 1 <= len(data) <= 255:
        raise InvalidInput("name is too long to be cosigned", found=len(data), expected="1 to 255")
    return bytes([len(data)]) + data


def _check_time(time: int) -> None:
    _check(0 <= time <= MAX_TIME, "time", time)


def _check(holds: bool, what: str, found: object) -> None:
    if not holds:
        raise InvalidInput(f"checkpoint's {what} is wrong", found=repr(found)[:80])
