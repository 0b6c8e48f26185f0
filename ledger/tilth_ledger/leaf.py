"""Leaves of the tree: signed envelopes (DSSE semantics) and the entries inside them.

Layout of a leaf, big-endian: version u8 = 1, type u16, payload length u32, payload, signature count
u8, then (key id 32 bytes, signature 64 bytes) for each signature.

Invariants:
- `Leaf.decode(b).encode() == b` for every `b` that decodes; at most 65,535 bytes.
- Signatures cover PAE(payload type, payload); a leaf's id is SHA-256 of that, so it leaves
  signatures out.
- An entry is strict I-JSON, names its consortium and its author, and has exactly its author's
  signature.

Left to others: which operations exist and who may write them (operations, rules).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tilth_ledger import canonical
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import KEY_BYTES, SIGNATURE_BYTES, PublicKey, SigningKey, hex_of

MAX_LEAF_BYTES = 65_535
MAX_SIGNATURES = 16
NONCE_BYTES = 16

ENTRY = 1
CERTIFIED_RESULT = 0x0101
EVIDENCE = 0x0102
EPOCH_END = 0x0103
LEADERBOARD = 0x0104

# They follow from the entry before them.
DERIVED = frozenset((CERTIFIED_RESULT, EPOCH_END, LEADERBOARD))

PAYLOAD_TYPES = {
    ENTRY: "application/vnd.tilth.entry.v1+json",
    CERTIFIED_RESULT: "application/vnd.in-toto+json",
    EVIDENCE: "application/vnd.tilth.evidence.v1+json",
    EPOCH_END: "application/vnd.tilth.epoch-end.v1+json",
    LEADERBOARD: "application/vnd.tilth.leaderboard.v1+json",
}

_HEAD = struct.Struct(">BHI")
_SIGNATURE = struct.Struct(f">{KEY_BYTES}s{SIGNATURE_BYTES}s")

Operation = dict[str, Any]


def pae(payload_type: str, payload: bytes) -> bytes:
    """DSSE v1 pre-authentication encoding: the bytes that are signed."""
    name = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Leaf:
    """An envelope: a typed payload and its signatures as (key id, signature)."""

    type: int
    payload: bytes
    signatures: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def signed_bytes(self) -> bytes:
        return pae(PAYLOAD_TYPES[self.type], self.payload)

    @property
    def id(self) -> str:
        """SHA-256 of the signed bytes in hex: the same for every signature on them."""
        return hashlib.sha256(self.signed_bytes).hexdigest()

    def encode(self) -> bytes:
        _check_type(self.type)
        _check_count(len(self.signatures))
        _check_widths(self.signatures)
        head = _HEAD.pack(1, self.type, len(self.payload))
        signatures = b"".join(_SIGNATURE.pack(*s) for s in self.signatures)
        data = b"".join((head, self.payload, bytes([len(self.signatures)]), signatures))
        _check_size(len(data))
        return data

    @staticmethod
    def decode(data: bytes) -> Leaf:
        """The leaf in `data`; `InvalidInput` unless it is exactly one."""
        kind, end = _layout(data)
        signatures = tuple(_SIGNATURE.iter_unpack(data[end + 1 :]))
        return Leaf(kind, data[_HEAD.size : end], signatures)


def leaf_id(data: bytes) -> str:
    """The id of an encoded leaf; `InvalidInput` unless it is exactly one."""
    kind, end = _layout(data)
    return hashlib.sha256(pae(PAYLOAD_TYPES[kind], data[_HEAD.size : end])).hexdigest()


def _layout(data: bytes) -> tuple[int, int]:
    """The type of an encoded leaf, and where its payload ends; `InvalidInput` if it is none."""
    _check_size(len(data))
    if len(data) < _HEAD.size + 1:
        raise InvalidInput("leaf is cut short", found=f"{len(data)} bytes")
    version, kind, length = _HEAD.unpack_from(data)
    if version != 1:
        raise InvalidInput("unknown leaf version", found=version, expected=1)
    _check_type(kind)
    end = _HEAD.size + length
    count = data[end] if end < len(data) else 0
    _check_count(count)
    if len(data) != end + 1 + count * _SIGNATURE.size:
        raise InvalidInput(
            "leaf's lengths do not add up",
            found=f"{len(data)} bytes",
            expected=f"{end + 1 + count * _SIGNATURE.size}",
        )
    return kind, end


def leaf_type(data: bytes) -> int:
    """The type that stands in an encoded leaf; 0 in bytes that are none."""
    return int.from_bytes(data[1:3])


def _check_type(kind: int) -> None:
    if kind not in PAYLOAD_TYPES:
        raise InvalidInput("unknown leaf type", found=kind, expected=sorted(PAYLOAD_TYPES))


def _check_count(count: int) -> None:
    if count > MAX_SIGNATURES:
        raise InvalidInput("leaf has too many signatures", found=count, expected=MAX_SIGNATURES)


def _check_widths(signatures: tuple[tuple[bytes, bytes], ...]) -> None:
    # struct would pad or cut what has another length.
    for key_id, signature in signatures:
        if len(key_id) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            raise InvalidInput(
                "leaf's signature has the wrong length",
                found=f"{len(key_id)} and {len(signature)} bytes",
                expected=f"key id {KEY_BYTES}, signature {SIGNATURE_BYTES}",
            )


def _check_size(size: int) -> None:
    if size > MAX_LEAF_BYTES:
        raise InvalidInput(
            "leaf is too large",
            found=f"{size} bytes",
            expected=f"at most {MAX_LEAF_BYTES}",
            remedy="Put long lists into parts, and bulk into blobs named by digest.",
        )


_REQUIRED = {"net", "organization", "author", "nonce", "operations"}
_FIELDS = _REQUIRED | {"not_after"}


@dataclass(frozen=True, slots=True)
class Entry:
    """The parsed payload of an entry leaf."""

    net: str
    organization: str
    author: str
    nonce: str
    operations: tuple[Operation, ...]
    not_after: int | None = None

    @staticmethod
    def parse(leaf: Leaf, max_operations: int) -> Entry:
        """The entry in `leaf`; its signature is not checked here (`verify_author` does)."""
        if leaf.type != ENTRY:
            raise InvalidInput("leaf is not an entry", found=f"type {leaf.type}", expected=ENTRY)
        value = canonical.loads(leaf.payload, max_bytes=MAX_LEAF_BYTES)
        if not isinstance(value, dict):
            raise InvalidInput("entry is not a JSON object", found=type(value).__name__)
        if unknown := value.keys() - _FIELDS:
            raise InvalidInput("entry has unknown fields", found=sorted(unknown))
        if missing := _REQUIRED - value.keys():
            raise InvalidInput("entry lacks fields", expected=sorted(missing))
        entry = Entry(
            net=hex_of(value["net"], 32, "entry's net"),
            organization=_text(value["organization"]),
            author=hex_of(value["author"], KEY_BYTES, "entry's author"),
            nonce=hex_of(value["nonce"], NONCE_BYTES, "entry's nonce"),
            operations=_operations(value["operations"], max_operations),
            not_after=_milliseconds(value.get("not_after")),
        )
        _check_signer(leaf, entry.author)
        return entry

    @staticmethod
    def read(leaf: Leaf) -> Entry:
        """What `parse` gives for a leaf that it has taken before; nothing is checked."""
        value = json.loads(leaf.payload)
        operations = tuple(value.pop("operations"))
        return Entry(operations=operations, **value)


def write_entry(
    net: str,
    organization: str,
    key: SigningKey,
    nonce: str,
    operations: Sequence[Operation],
    not_after: int | None = None,
) -> Leaf:
    """An entry of `organization`, signed by `key`; `nonce` is 32 random hex digits."""
    payload: dict[str, Any] = {
        "net": net,
        "organization": organization,
        "author": key.key_id,
        "nonce": nonce,
        "operations": list(operations),
    }
    if not_after is not None:
        payload["not_after"] = not_after
    data = canonical.dumps(payload)
    signature = key.sign(pae(PAYLOAD_TYPES[ENTRY], data))
    leaf = Leaf(ENTRY, data, ((bytes.fromhex(key.key_id), signature),))
    _check_size(_HEAD.size + len(data) + 1 + _SIGNATURE.size)
    return leaf


def verify_author(leaf: Leaf, public: PublicKey) -> None:
    """Raise `BadSignature` or `InvalidInput` unless `public` signed `leaf`, and nobody else."""
    _check_signer(leaf, public.key_id)
    public.verify(leaf.signatures[0][1], leaf.signed_bytes)


def _check_signer(leaf: Leaf, author: str) -> None:
    if len(leaf.signatures) != 1 or leaf.signatures[0][0].hex() != author:
        signers = [key_id.hex() for key_id, _ in leaf.signatures]
        raise InvalidInput(
            "entry is not signed by its author alone", found=signers, expected=[author]
        )


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 100:
        raise InvalidInput("entry's organization is not a name", found=repr(value)[:80])
    return value


def _operations(value: object, most: int) -> tuple[Operation, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        found = len(value) if isinstance(value, list) else type(value).__name__
        raise InvalidInput(
            "entry's operations are not a list", found=found, expected=f"1 to {most} operations"
        )
    for operation in value:
        if not isinstance(operation, dict) or not isinstance(operation.get("op"), str):
            raise InvalidInput("operation is not an object with an op", found=repr(operation)[:80])
    return tuple(value)


def _milliseconds(value: object) -> int | None:
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise InvalidInput("entry's not_after is not a time in ms", found=repr(value)[:80])
    return value
