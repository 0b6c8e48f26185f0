"""Signed notes (c2sp.org/signed-note): text, an empty line, and one signature line for each key.

Invariants:
- `Note.decode(b).encode() == b` for every `b` that decodes; base64 has one form only.
- A key's id is SHA-256(name, newline, type byte, public key)[:4]: it names the key, the name and
  the algorithm, and proves nothing.
- Lines of unknown keys are ignored, also those that share a name or an id with a known one; a line
  of a known key that does not verify makes the whole note refused.
- A note is opened by at least one known key, or not at all.

Left to others: what a text says, and the cosignature types 0x04 and 0x06 (checkpoints).
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import KEY_BYTES, PublicKey, SigningKey
from tilth_ledger.mldsa import MLDSA_KEY_BYTES

MAX_NOTE_BYTES = 1_000_000
MAX_LINES = 100
KEY_ID_BYTES = 4

ED25519, COSIGNATURE, MLDSA_COSIGNATURE = 0x01, 0x04, 0x06
KEY_LENGTHS = {ED25519: KEY_BYTES, COSIGNATURE: KEY_BYTES, MLDSA_COSIGNATURE: MLDSA_KEY_BYTES}

_DASH = "\u2014 "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_KEY_ID = re.compile(r"[0-9a-fA-F]{8}")


@dataclass(frozen=True, slots=True)
class Line:
    """A signature line: who claims to have signed, and the bytes after the key id."""

    name: str
    key_id: bytes
    signature: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {b64encode(self.key_id + self.signature).decode()}"

    @staticmethod
    def parse(text: str) -> Line:
        """The line in `text`, which has no newline. Raises `InvalidInput`."""
        name, space, encoded = text.removeprefix(_DASH).partition(" ")
        if not text.startswith(_DASH) or not space:
            raise _malformed("a line that is no signature", text)
        check_name(name)
        data = unbase64(encoded, "signature of a note")
        if len(data) <= KEY_ID_BYTES:
            raise _malformed("a signature without content", text)
        return Line(name, data[:KEY_ID_BYTES], data[KEY_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Note:
    """A text that ends in a newline, and its signature lines, none of them verified."""

    text: str
    lines: tuple[Line, ...]

    def encode(self) -> bytes:
        _check_text(self.text)
        if not 1 <= len(self.lines) <= MAX_LINES:
            raise _malformed(f"{len(self.lines)} signatures", self.text)
        for line in self.lines:
            check_name(line.name)
        signed = "".join(f"{line}\n" for line in self.lines)
        data = f"{self.text}\n{signed}".encode()
        _check_size(data)
        return data

    @staticmethod
    def decode(data: bytes) -> Note:
        """The note in `data`, its signatures not verified. Raises `InvalidInput`."""
        _check_size(data)
        try:
            whole = data.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput("note is not UTF-8", found=str(error)) from None
        end = whole.rfind("\n\n")
        text, signed = whole[: end + 1], whole[end + 2 :]
        if end < 0 or not signed.endswith("\n"):
            raise _malformed("no signatures after an empty line", whole)
        _check_text(text)
        _check_controls(signed)
        lines = signed[:-1].split("\n")
        if len(lines) > MAX_LINES:
            raise _malformed(f"{len(lines)} signatures", whole)
        return Note(text, tuple(map(Line.parse, lines)))


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name and signature type; as text `name+id+base64(type, key)`."""

    name: str
    type: int
    key: bytes

    def __post_init__(self) -> None:
        check_name(self.name)
        if KEY_LENGTHS.get(self.type) != len(self.key):
            raise InvalidInput(
                "verifier key has an unknown type or the wrong length",
                found=f"type {self.type:#04x}, {len(self.key)} bytes",
                expected=", ".join(f"{kind:#04x}: {n} bytes" for kind, n in KEY_LENGTHS.items()),
            )

    @property
    def id(self) -> bytes:
        return key_id(self.name, self.type, self.key)

    def __str__(self) -> str:
        encoded = b64encode(bytes([self.type]) + self.key).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    @staticmethod
    def parse(text: str) -> VerifierKey:
        """The key in `text`. Raises `InvalidInput`, also when its id is not that of the key."""
        name, _, rest = text.partition("+")
        identifier, _, encoded = rest.partition("+")
        data = unbase64(encoded, "verifier key")
        if not data or not _KEY_ID.fullmatch(identifier):
            raise InvalidInput(
                "not a verifier key", found=repr(text)[:80], expected="name+id+base64(type, key)"
            )
        key = VerifierKey(name, data[0], data[1:])
        if key.id.hex() != identifier.lower():
            raise InvalidInput(
                "verifier key has the id of another", found=identifier, expected=key.id.hex()
            )
        return key


class Verifier(Protocol):
    """Checks the signatures of one key."""

    @property
    def key(self) -> VerifierKey: ...

    def verify(self, text: str, signature: bytes) -> None:
        """Raise `InvalidInput` unless `signature` is this key's on a note with this text."""


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """Signature type 0x01: plain Ed25519 over the text."""

    key: VerifierKey

    def verify(self, text: str, signature: bytes) -> None:
        PublicKey(self.key.key).verify(signature, text.encode())


@dataclass(frozen=True, slots=True)
class Opened:
    """A note that a known key signed."""

    text: str
    signed: tuple[Line, ...]  # verified
    unknown: tuple[Line, ...]  # ignored

    def by(self, key: VerifierKey) -> Line | None:
        """The verified line of a key; None when there is none."""
        return next((x for x in self.signed if (x.name, x.key_id) == (key.name, key.id)), None)


def open_note(data: bytes, verifiers: Iterable[Verifier]) -> Opened:
    """Verify the note in `data` with the keys that the caller trusts.

    Raises `InvalidInput` when it is malformed, when a line of a known key does not verify, and when
    no known key signed it.
    """
    note = Note.decode(data)
    known: dict[tuple[str, bytes], list[Verifier]] = {}
    for verifier in verifiers:
        known.setdefault((verifier.key.name, verifier.key.id), []).append(verifier)
    signed: dict[Line, None] = {}
    unknown: dict[Line, None] = {}
    for line in note.lines:
        match known.get((line.name, line.key_id), []):
            case []:
                unknown[line] = None
            case [verifier]:
                verifier.verify(note.text, line.signature)
                signed[line] = None
            case _:
                raise InvalidInput("two known keys have one name and id", found=line.name)
    if not signed:
        raise InvalidInput(
            "note is signed by no known key",
            found=", ".join(dict.fromkeys(line.name for line in note.lines))[:200],
        )
    return Opened(note.text, tuple(signed), tuple(unknown))


def sign_line(name: str, key: SigningKey, text: str) -> Line:
    """The line of type 0x01 that `key` signs on a note with this text."""
    _check_text(text)
    public = VerifierKey(name, ED25519, key.public.raw)
    return Line(name, public.id, key.sign(text.encode()))


def key_id(name: str, kind: int, key: bytes) -> bytes:
    """Four bytes that name a key (signed-note, "Signatures")."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + key).digest()[:KEY_ID_BYTES]


def check_name(name: str) -> None:
    """Raise `InvalidInput` unless this can be a key's name."""
    if not name or "+" in name or any(c.isspace() or c < " " for c in name):
        raise InvalidInput(
            "not a key's name", found=repr(name)[:80], expected="text without spaces and plus"
        )


def unbase64(text: str, what: str) -> bytes:
    """Standard base64 (RFC 4648, section 4) in its one canonical form."""
    try:
        data = b64decode(text, validate=True)
    except ValueError:
        data = None
    if data is None or b64encode(data).decode() != text:
        raise InvalidInput(f"{what} is not base64", found=repr(text)[:80])
    return data


def _check_text(text: str) -> None:
    if not text.endswith("\n"):
        raise _malformed("a text that does not end in a newline", text)
    _check_controls(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _malformed("a lone surrogate", text) from None


def _check_controls(text: str) -> None:
    if found := _CONTROL.search(text):
        raise _malformed(f"the control character {ord(found[0]):#04x}", text)


def _check_size(data: Sequence[int]) -> None:
    if len(data) > MAX_NOTE_BYTES:
        raise InvalidInput("note is too large", found=len(data), expected=MAX_NOTE_BYTES)


def _malformed(found: str, text: str) -> InvalidInput:
    return InvalidInput("malformed note", found=f"{found} in {text[:60]!r}")
