"""The independent verifier: genesis file and proof bundle in, what is proven and what is not out.

    python verifier.py genesis.json row.json [--json]      exit: 0 proven, 1 refused, 2 cannot read
        [--trusted CHECKPOINT]  the ledger must extend it      [--witness VKEY]  who else signed it

One file, Python's standard library and `cryptography` only. It shares no code with the node or the
SDK: hashing, the Merkle tree, certificates and envelopes are written here a second time from the
specification, so that a mistake there is not repeated here.

Invariants:
- No network, no clock, no other file. `verify` never raises on hostile bytes: sizes, counts and
  depths are bounded, and a failed check becomes a refusal that says what was found and expected.
- Nothing in the bundle is believed but what hashes to the root of one head: a checkpoint that k
  members cosigned, or a block that q members made final. Who the members are follows from genesis:
  each change of them was made final by q members of the epoch before.
- The report names the weakest link it relied on.

What it cannot know, it says: `Report.not_proven`. Versions 1 and 2 of bundles are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

T = TypeVar("T")

RULES_VERSION = 1  # the newest whose leaves are understood here
LATER = "later rules need the verifier of a release that knows them"

MAX_GENESIS_BYTES = 64 << 20
MAX_BUNDLE_BYTES = 32 << 20
MAX_LEAF_BYTES = 65_535
MAX_LEAVES = 256
MAX_DEPTH = 32
MAX_EPOCHS = 100_000
MAX_HASHES = 1_000_000
MAX_CONTENT_BYTES = 64 << 20
MAX_NOTE_BYTES = 1_000_000
MAX_LINES = 100

# version, net, epoch, view, height, parent, parent's view, skips, leaf count, size, root, state,
# time, proposer
HEADER = struct.Struct(">H32sQQQ32sQ32sIQ32s32sQH")
CERTIFICATE = struct.Struct(">BQQ32sH")  # kind, epoch, view, block, number of members
VOTE = struct.Struct(">32sQBQ32s")  # net, epoch, kind, view, block
FINALIZE = 3
ENTRY, CERTIFIED, EVIDENCE, EPOCH_END, LEADERBOARD = 1, 0x0101, 0x0102, 0x0103, 0x0104
PAYLOAD_TYPES = {
    ENTRY: "application/vnd.tilth.entry.v1+json",
    CERTIFIED: "application/vnd.in-toto+json",
    EVIDENCE: "application/vnd.tilth.evidence.v1+json",
    EPOCH_END: "application/vnd.tilth.epoch-end.v1+json",
    LEADERBOARD: "application/vnd.tilth.leaderboard.v1+json",
}
# Types of signatures on notes (c2sp.org/signed-note), with the bytes of key and signature.
LOG, COSIGNATURE, MLDSA = 1, 4, 6
KEY_BYTES = {LOG: 32, COSIGNATURE: 32, MLDSA: 1312}
LINE_BYTES = {LOG: 64, COSIGNATURE: 72, MLDSA: 2428}
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:tilth:certified-result:1"
CHECKPOINT = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n")
CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")  # in no signed note
DECIMAL = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,12})?")

# The points of order 1, 2, 4 and 8: libraries disagree on signatures made with them. Each encoding
# of y stands for two, with and without the sign bit.
_LOW_ORDER_Y = (
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
)
LOW_ORDER = {
    y[:31] + bytes([y[31] | sign]) for y in map(bytes.fromhex, _LOW_ORDER_Y) for sign in (0, 0x80)
}


@dataclass(slots=True)
class Report:
    """What a bundle proves; `refusal` names the check that failed when `ok` is false."""

    ok: bool = False
    proven: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    refusal: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        lines = ["PROVEN" if self.ok else "REFUSED"]
        lines += [f"  {name}: {text}" for name, text in self.refusal.items()]
        for name, value in self.facts.items():
            lines += _lines(name, value)
        lines += [f"  + {text}" for text in self.proven]
        lines += [f"  - not proven: {text}" for text in self.not_proven]
        # What came from the files may hold control characters meant for a terminal.
        return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def _lines(name: str, value: Any) -> list[str]:
    """A fact as text; of the results one line for each."""
    if name == "results":
        line = "    {worker}: {value} on {count} rows, grade {grade}, entry {index}, set {set}"
        return [f"  {name}:", *(line.format(**result) for result in value)]
    if isinstance(value, list):
        return [f"  {name}: {', '.join(map(str, value))}"]
    return [f"  {name}: {_compact(value) if isinstance(value, dict) else value}"]


class _Refusal(Exception):
    """A check that failed; never leaves `verify`."""

    def __init__(self, check: str, found: object, expected: object) -> None:
        super().__init__(check)
        facts = {"check": check, "found": found, "expected": expected}
        self.facts = {name: str(value)[:300] for name, value in facts.items()}


def verify(
    bundle: bytes, genesis: bytes, *, trusted: bytes | None = None, witnesses: tuple[str, ...] = ()
) -> Report:
    """Check a proof bundle against the genesis file of the consortium that one trusts.

    `trusted`: a checkpoint seen before, which the ledger must extend. `witnesses`: verifier keys of
    cosigners outside the consortium; each must have signed.
    """
    report = Report()
    try:
        _verify(bundle, genesis, report, trusted, witnesses)
    except _Refusal as refusal:
        return Report(refusal=refusal.facts)
    report.ok = True
    return report


def _verify(
    bundle: bytes,
    genesis: bytes,
    report: Report,
    trusted: bytes | None,
    witnesses: tuple[str, ...],
) -> None:
    consortium = _consortium(genesis)
    parts, keys = _bundle(bundle, consortium), [_witness(text) for text in witnesses]
    if parts["format"] == "tilth-bundle-1":
        proof = _proof_1(parts, consortium)
    else:
        proof = _proof_2(parts, consortium)
    if keys:
        _check_witnesses(proof.note, keys, proof)
    if trusted is not None:
        _check_trusted(trusted, proof, consortium)
    _report(report, proof, consortium)
    leaves = proof.leaves
    known = _authors(leaves, proof.authors, consortium, report)
    results = [
        _result(index, leaves, known, consortium)
        for index, leaf in sorted(leaves.items())
        if leaf.type == CERTIFIED
    ]
    if results:
        _row(results, leaves, known, report)
    checked = 1 + max(result.index for result in results) if results else 1 + max(leaves)
    if proof.standing is not None:
        checked = _stood(proof.standing, results, leaves, consortium, report)
    if results:
        report.not_proven += [
            "that the workers' word is true: each score is a signed statement; a re-run checks it",
            "that no two organizations hold the same data",
        ]
    report.not_proven += proof.not_proven
    weakest = min(proof.links, key=lambda link: link.liars)
    too = f", and {' and '.join(proof.outside)} too" if proof.outside else ""
    report.facts["weakest link"] = f"{weakest}{too}"
    report.facts["not checked"] = f"revocation after size {checked}"
    report.not_proven += [
        f"that nothing was revoked or withdrawn after size {checked}",
        f"anything, if {weakest.liars} or more of the {weakest.members} members sign two histories"
        f"{too}",
    ]


def _report(report: Report, proof: _Proof, consortium: _Consortium) -> None:
    tree, leaves = proof.tree, proof.leaves
    report.facts |= {"consortium": consortium.name, "genesis": consortium.net}
    report.facts |= {"size": tree.size, "root": tree.root.hex()} | proof.facts
    report.proven += [
        *proof.proven,
        f"{len(leaves)} entries stand in it unchanged, at {', '.join(map(str, sorted(leaves)))}",
    ]


def _time(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        _refuse(
            "time of the header, of a board or of a cosignature",
            f"{milliseconds} ms",
            "a time before the year 10000",
        )
    return moment.isoformat(timespec="seconds")


# ---- values ----


def _refuse(check: str, found: object, expected: object) -> NoReturn:
    raise _Refusal(check, found, expected)


def _same(check: str, found: object, expected: object) -> None:
    # Compared as JSON, so that 1 and true differ.
    if _compact(found) != _compact(expected):
        _refuse(check, found, expected)


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _hash(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _json(data: bytes, what: str, limit: int) -> dict[str, Any]:
    """A JSON object of strings, integers, booleans, lists and objects, read in one way only."""

    def no_number(text: str) -> NoReturn:
        _refuse(f"numbers of the {what}", text[:40], "integers only")

    def integer(text: str) -> int:
        if len(text) > 17 or abs(int(text)) >= 2**53 or text == "-0":
            _refuse(f"numbers of the {what}", text[:40], "integers within 2^53")
        return int(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            _refuse(f"keys of the {what}", [key for key, _ in pairs], "each key once")
        return dict(pairs)

    if len(data) > limit:
        _refuse(f"size of the {what}", f"{len(data)} bytes", f"at most {limit}")
    try:
        decoder = json.JSONDecoder(
            object_pairs_hook=unique,
            parse_int=integer,
            parse_float=no_number,
            parse_constant=no_number,
        )
        value = decoder.decode(data.decode())
        json.dumps(value, ensure_ascii=False).encode()  # refuses lone surrogates
    except (ValueError, RecursionError) as error:
        _refuse(f"form of the {what}", error, "UTF-8 JSON")
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for item in level for child in _children(item)]
    if level:
        _refuse(f"depth of the {what}", f"more than {MAX_DEPTH} levels", MAX_DEPTH)
    if not isinstance(value, dict):
        _refuse(f"form of the {what}", type(value).__name__, "a JSON object")
    return value


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _get(value: object, name: str, kind: type[T], what: str) -> T:
    """The field `name` of a JSON object, which must have the type `kind`."""
    found = value.get(name) if isinstance(value, dict) else None
    if type(found) is not kind:
        _refuse(f"{name} of the {what}", repr(found)[:80], f"of type {kind.__name__}")
    return found


def _unhex(text: object, what: str, length: int | None = None) -> bytes:
    if not isinstance(text, str) or len(text) % 2 or not re.fullmatch("[0-9a-f]*", text):
        _refuse(f"form of the {what}", repr(text)[:80], "lower-case hex")
    if length is not None and len(text) != 2 * length:
        _refuse(f"length of the {what}", f"{len(text) // 2} bytes", length)
    return bytes.fromhex(text)


def _unbase64(text: object, what: str, length: int | None = None) -> bytes:
    if not isinstance(text, str):
        _refuse(f"form of the {what}", type(text).__name__, "base64")
    try:
        data = b64decode(text, validate=True)
    except ValueError as error:
        _refuse(f"form of the {what}", error, "base64")
    _same(f"form of the {what}", text, b64encode(data).decode())
    if length is not None and len(data) != length:
        _refuse(f"length of the {what}", f"{len(data)} bytes", length)
    return data


def _check_signature(check: str, key: bytes, signature: bytes, message: bytes) -> None:
    if key in LOW_ORDER or signature[:32] in LOW_ORDER:
        _refuse(check, "a low-order point", "a sound key and signature")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except (InvalidSignature, ValueError):
        _refuse(check, f"signature {signature.hex()[:16]}...", f"one by key {key.hex()[:16]}...")


# ---- genesis ----


@dataclass(frozen=True, slots=True)
class _Author:
    """Who stands behind a key id."""

    organization: str
    key: bytes
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Member:
    """A member's keys in one epoch; of its ML-DSA-44 key the digest."""

    organization: str
    vote: bytes
    cosign: bytes
    log: bytes
    mldsa: str | None


@dataclass(frozen=True, slots=True)
class _Epoch:
    """Who votes from some block on, and how many votes and cosignatures count."""

    number: int
    members: list[_Member]
    q: int
    k: int

    def of(self, number: int) -> str:
        return f"{number} of {len(self.members)}"


@dataclass(frozen=True, slots=True)
class _Consortium:
    """What a proof needs of a genesis file."""

    net: str
    name: str
    first: _Epoch
    authors: dict[str, _Author]  # by key id
    mldsa: dict[str, bytes]  # ML-DSA-44 keys by digest

    @property
    def origin(self) -> str:
        return f"{self.name}/{self.net[:16]}"


def _consortium(data: bytes) -> _Consortium:
    value = _json(data, "genesis", MAX_GENESIS_BYTES)
    _same("format of the genesis", value.get("format"), "tilth-genesis-1")
    _check_version("rules_version of the genesis", value.get("rules_version"))
    members = _get(value, "members", list, "genesis")
    parties = members + _get(value, "organizations", list, "genesis")
    names = [_get(party, "organization", str, "genesis") for party in parties]
    keys = [_keys(party, name) for party, name in zip(parties, names, strict=True)]
    mldsa = [_mldsa_key(party, name) for party, name in zip(parties, names, strict=True)]
    _check_unique("organizations of the genesis", names)
    _check_unique("keys of the genesis", [key for held in keys for key in held.values()])
    listed = [
        _Member(name, held["vote"], held["cosign"], held["log"], _digest(key))
        for name, held, key in zip(names[: len(members)], keys, mldsa, strict=False)
    ]
    return _Consortium(
        net=hashlib.sha256(data).hexdigest(),
        name=_get(value, "name", str, "genesis"),
        first=_epoch(0, listed, value, "genesis"),
        authors=_principals(dict(zip(names, keys, strict=True))),
        mldsa={hashlib.sha256(key).hexdigest(): key for key in mldsa if key is not None},
    )


def _check_version(check: str, version: object) -> None:
    # Leaves of all versions up to the newest are understood here.
    if type(version) is not int or not 1 <= version <= RULES_VERSION:
        _refuse(check, version, f"1 to {RULES_VERSION}: {LATER}")


def _epoch(number: int, members: list[_Member], value: object, what: str) -> _Epoch:
    q, k, n = _get(value, "q", int, what), _get(value, "k", int, what), len(members)
    if not n < 2 * q <= 2 * n:
        _refuse(f"q of the {what}", f"{q} of {n} members", "more than half, and no more than all")
    if not q <= k <= n:
        _refuse(f"k of the {what}", f"{k} of {n} members", f"{q} to {n}")
    return _Epoch(number, members, q, k)


def _principals(keys: dict[str, dict[str, bytes]]) -> dict[str, _Author]:
    """The identities that organizations have by their own keys."""
    return {
        _key_id(held[role]): _Author(name, held[role], frozenset((role,)))
        for name, held in keys.items()
        for role in ("admin", "node")
    }


def _mldsa_key(party: object, name: str) -> bytes | None:
    text = party.get("cosign_mldsa") if isinstance(party, dict) else None
    return None if text is None else _unhex(text, f"ML-DSA-44 key of {name}", KEY_BYTES[MLDSA])


def _digest(key: bytes | None) -> str | None:
    return None if key is None else hashlib.sha256(key).hexdigest()


def _keys(party: object, name: str) -> dict[str, bytes]:
    held = _get(party, "keys", dict, f"genesis about {name}")
    roles = ("vote", "cosign", "log", "node", "admin")
    return {role: _unhex(held.get(role), f"{role} key of {name}", 32) for role in roles}


def _key_id(key: bytes) -> str:
    return _hash(b"tilth/ed25519\0", key).hex()


def _check_unique(check: str, items: list[Any]) -> None:
    twice = [item for item, count in Counter(items).items() if count > 1]
    if twice:
        _refuse(check, f"{twice[0]!r} more than once", "each once")


# ---- bundles ----

FIELDS = {
    "tilth-bundle-1": (["certificate", "header", "leaves"], []),
    "tilth-bundle-2": (
        ["content", "epochs", "hashes", "leaves"],
        ["certificate", "checkpoint", "consistency", "header", "keys", "standing"],
    ),
}


def _bundle(data: bytes, consortium: _Consortium) -> dict[str, Any]:
    value = _json(data, "bundle", MAX_BUNDLE_BYTES)
    version = value.get("format")
    if not isinstance(version, str) or version not in FIELDS:
        _refuse("format of the bundle", version, " or ".join(FIELDS))
    required, optional = FIELDS[version]
    found = set(value) - {"format", "genesis"}
    if not set(required) <= found <= {*required, *optional}:
        _refuse("fields of the bundle", sorted(value), sorted(required))
    _same("genesis of the bundle", value.get("genesis"), consortium.net)
    return value


@dataclass(frozen=True, slots=True)
class _Tree:
    """The tree that leaves are proven against."""

    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class _Link:
    """Something the proof rests on, and how many of the members have to lie to break it."""

    liars: int
    members: int
    text: str

    def __str__(self) -> str:
        return f"{self.text}: {self.liars} of the {self.members} could have forged it together"


@dataclass(slots=True)
class _Proof:
    """What a bundle of either version comes down to."""

    tree: _Tree
    leaves: Leaves
    authors: dict[str, _Author]
    links: list[_Link]
    note: _Note | None = None  # the head, where members cosigned it (version 2)
    facts: dict[str, Any] = field(default_factory=dict)
    proven: list[str] = field(default_factory=list)
    not_proven: list[str] = field(default_factory=list)
    since: tuple[int, list[bytes]] | None = None  # a consistency proof from this size
    standing: _Standing | None = None
    outside: list[str] = field(default_factory=list)  # witnesses that cosigned the head


def _link(number: int, epoch: _Epoch, needed: int, text: str) -> _Link:
    return _Link(2 * needed - len(epoch.members), len(epoch.members), text.format(epoch.of(number)))


def _proof_1(parts: dict[str, Any], consortium: _Consortium) -> _Proof:
    epoch = consortium.first
    header = _header(parts["header"], consortium, epoch)
    signers = _certificate(parts["certificate"], header, consortium, epoch)
    tree = _Tree(header.size, header.root)
    link = _link(len(signers), epoch, epoch.q, "{} members voted that the head is final")
    proof = _Proof(tree, _leaves(parts["leaves"], tree, FORM_1), dict(consortium.authors), [link])
    proof.facts |= {"height": header.height, "time": _time(header.time_ms), "signers": signers}
    proof.facts["quorum"] = epoch.of(epoch.q)
    text = (
        f"{epoch.of(len(signers))} members signed that the ledger of {tree.size} entries is final"
    )
    proof.proven.append(text)
    return proof


def _proof_2(parts: dict[str, Any], consortium: _Consortium) -> _Proof:
    hashes, content = _Hashes(parts["hashes"]), _Content(parts["content"])
    form = _Form("length", content.leaf, hashes.path_of)
    note = _note(parts["checkpoint"], consortium) if "checkpoint" in parts else None
    tree = note.tree if note else _tree_of_header(parts)
    proof = _Proof(tree, {}, dict(consortium.authors), [], note=note)
    epoch = _walk_epochs(parts["epochs"], form, hashes, consortium, proof)
    heads: list[_Link] = []
    if "header" in parts or "certificate" in parts:
        heads.append(_finality(parts, epoch, consortium, proof))
    if note is not None:
        keys = _mldsa_keys(parts.get("keys", {}), epoch, consortium)
        heads += _cosigned(note, epoch, keys, consortium, proof)
    elif "keys" in parts:
        _refuse("signatures of the head", "no checkpoint", "one that the members cosigned")
    if not heads:
        found = f"{proof.facts['cosigned']} members cosigned, and there are no votes"
        expected = f"{epoch.k} cosignatures, or votes that make it final"
        _refuse("signatures of the head", found, expected)
    proof.links.append(max(heads, key=lambda link: link.liars))
    if "header" not in parts:
        proof.not_proven.append(f"that epoch {epoch.number} had not ended before this head")
    if "consistency" in parts:
        size = _get(parts["consistency"], "size", int, "consistency")
        proof.since = size, hashes.path(parts["consistency"], "path", "consistency")
    if "standing" in parts:
        proof.standing = _standing_row(parts["standing"], hashes)
    proof.leaves = _leaves(parts["leaves"], tree, form)
    hashes.check_used()
    content.check_used()
    return proof


class _Hashes:
    """The table of hashes that paths of version 2 point into."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, list) or len(value) > MAX_HASHES:
            _refuse("hashes of the bundle", type(value).__name__, f"a list up to {MAX_HASHES}")
        self._all = [_unbase64(text, "hash", 32) for text in value]
        self._used: set[int] = set()

    def path(self, value: object, name: str, what: str) -> list[bytes]:
        """The path in the field `name` of a JSON object."""
        places = _get(value, name, list, what)
        for place in places:
            if type(place) is not int or not 0 <= place < len(self._all):
                _refuse(f"{name} of {what}", place, f"a place below {len(self._all)}")
        self._used.update(places)
        return [self._all[place] for place in places]

    def path_of(self, leaf: object, what: str) -> list[bytes]:
        return self.path(leaf, "path", what)

    def check_used(self) -> None:
        if len(self._used) != len(self._all):
            _refuse("hashes of the bundle", len(self._all), f"{len(self._used)}, all of them used")


class _Content:
    """The leaves of version 2, one after the other."""

    def __init__(self, value: object) -> None:
        packed, stream = _unbase64(value, "content of the bundle"), zlib.decompressobj()
        try:
            self._all = stream.decompress(packed, MAX_CONTENT_BYTES)
        except zlib.error as error:
            _refuse("form of the content of the bundle", error, "zlib")
        if not stream.eof or stream.unused_data:
            _refuse("size of the content of the bundle", "more or less", "one whole stream")
        self._at = 0

    def leaf(self, item: object, what: str) -> bytes:
        """The next leaf, whose length a JSON object states."""
        start, length = self._at, _get(item, "length", int, what)
        self._at += max(length, 0)
        if not 0 <= length <= len(self._all) - start:
            _refuse(f"length of {what}", length, f"up to {len(self._all) - start}")
        return self._all[start : self._at]

    def check_used(self) -> None:
        if self._at != len(self._all):
            _refuse("content of the bundle", len(self._all), f"{self._at} bytes, all of it leaves")


# ---- epochs ----


def _walk_epochs(
    value: object, form: _Form, hashes: _Hashes, consortium: _Consortium, proof: _Proof
) -> _Epoch:
    """The epoch whose members sign the head: from genesis on, each ended by its own members."""
    if not isinstance(value, list) or len(value) > MAX_EPOCHS:
        _refuse("epochs of the bundle", type(value).__name__, f"a list up to {MAX_EPOCHS}")
    epoch, size = consortium.first, 0
    for item in value:
        what = f"end of epoch {epoch.number}"
        names = ["certificate", "consistency", "header", "index", "length", "path"]
        _same(f"fields of the {what}", sorted(item) if isinstance(item, dict) else item, names)
        header = _header(item["header"], consortium, epoch)
        signers = _certificate(item["certificate"], header, consortium, epoch)
        if not size < header.size < proof.tree.size:
            _refuse(f"size of the {what}", header.size, f"{size + 1} to {proof.tree.size - 1}")
        _same(f"place of the {what}", item["index"], header.size - 1)
        old = _Tree(header.size, header.root)
        found = _leaves([{n: item[n] for n in ("index", "length", "path")}], old, form)
        leaf = found[header.size - 1]
        path = hashes.path(item, "consistency", what)
        _check_consistency(f"history before the {what}", old, proof.tree, path)
        new = _next_epoch(leaf, epoch, consortium, what)
        text = f"{{}} members of epoch {epoch.number} began epoch {new.number}"
        proof.links.append(_link(len(signers), epoch, epoch.q, text))
        proof.proven.append(f"{text.format(epoch.of(len(signers)))}: {', '.join(signers)}")
        proof.authors |= _changed_keys(leaf, what)
        epoch, size = new, header.size
    proof.facts["epoch"] = epoch.number
    return epoch


def _next_epoch(leaf: _Leaf, epoch: _Epoch, consortium: _Consortium, what: str) -> _Epoch:
    _same(f"type of the {what}", leaf.type, EPOCH_END)
    _same(f"signatures of the {what}", len(leaf.signatures), 0)
    _same(f"consortium of the {what}", leaf.content.get("net"), consortium.net)
    _check_version(f"rules_version after the {what}", leaf.content.get("rules_version"))
    _same(f"number of the epoch after the {what}", leaf.content.get("epoch"), epoch.number + 1)
    members = [_member(item, what) for item in _get(leaf.content, "members", list, what)]
    _check_unique(f"members after the {what}", [each.organization for each in members])
    _check_unique(f"vote keys after the {what}", [each.vote for each in members])
    _check_unique(f"cosign keys after the {what}", [each.cosign for each in members])
    return _epoch(epoch.number + 1, members, leaf.content, what)


def _member(value: object, what: str) -> _Member:
    name = _get(value, "organization", str, what)
    keys = [
        _unhex(_get(value, role, str, what), f"{role} key of {name}", 32)
        for role in ("vote", "cosign", "log")
    ]
    digest = value.get("cosign_mldsa") if isinstance(value, dict) else None
    if digest is not None:
        _unhex(digest, f"digest of the ML-DSA-44 key of {name}", 32)
    return _Member(name, keys[0], keys[1], keys[2], digest)


def _changed_keys(leaf: _Leaf, what: str) -> dict[str, _Author]:
    """Identities of the organization that the change admitted, or whose keys it replaced."""
    change = _get(leaf.content, "change", dict, what)
    if "keys" not in change:
        return {}
    name = _get(change, "organization", str, what)
    return _principals({name: _keys(change, name)})


# ---- checkpoints ----


@dataclass(frozen=True, slots=True)
class _Key:
    """A key that signs notes: its name and type, and who holds it."""

    name: str
    type: int
    raw: bytes
    holder: str

    @property
    def id(self) -> bytes:
        return _hash(self.name.encode(), b"\n", bytes([self.type]), self.raw)[:4]


@dataclass(frozen=True, slots=True)
class _Note:
    """A checkpoint: its text, what that says, and lines as (name, key id, signature)."""

    text: str
    origin: str
    tree: _Tree
    lines: list[tuple[str, bytes, bytes]]


def _note(value: object, consortium: _Consortium) -> _Note:
    """The checkpoint in a signed note of this consortium, its signatures not verified."""
    whole = value if isinstance(value, str) else ""
    text, separator, signed = whole.rpartition("\n\n")
    text += "\n"
    found = CHECKPOINT.fullmatch(text)
    sound = separator and signed[-1:] == "\n" and not CONTROL.search(whole)
    if len(whole) > MAX_NOTE_BYTES or not sound or not found:
        _refuse("form of the checkpoint", whole[:100], "origin, size, root and signatures")
    origin, size, root = found.groups()
    _same("origin of the checkpoint", origin, consortium.origin)
    lines = signed[:-1].split("\n")
    if len(lines) > MAX_LINES:
        _refuse("lines of the checkpoint", len(lines), f"up to {MAX_LINES}")
    tree = _Tree(int(size), _unbase64(root, "root of the checkpoint", 32))
    return _Note(text, origin, tree, [_line(line) for line in lines])


def _line(text: str) -> tuple[str, bytes, bytes]:
    words = text.split(" ")
    name = words[1] if len(words) == 3 and words[0] == "\u2014" else ""
    if not name or "+" in name or any(each.isspace() for each in name):
        _refuse("form of a line of the checkpoint", text[:100], "\u2014 name signature")
    data = _unbase64(words[2], "signature of the checkpoint")
    if len(data) < 5:
        _refuse("signature of the checkpoint", f"{len(data)} bytes", "a key id and a signature")
    return words[1], data[:4], data[4:]


def _line_time(note: _Note, key: _Key) -> int | None:
    """The time at which a key signed the note, in seconds (0 of a log); None if it did not.

    Of a known key every line must verify (c2sp.org/signed-note).
    """
    found = [line for line in note.lines if line[:2] == (key.name, key.id)]
    times = [_check_line(note, key, signature) for _, _, signature in found]
    return min(times, default=None)


def _check_line(note: _Note, key: _Key, data: bytes) -> int:
    check = f"signature of {key.holder} on the checkpoint"
    if len(data) != LINE_BYTES[key.type]:
        _refuse(check, f"{len(data)} bytes", LINE_BYTES[key.type])
    if key.type == LOG:
        _check_signature(check, key.raw, data, note.text.encode())
        return 0
    time, signature = int.from_bytes(data[:8], "big"), data[8:]
    if time >= 2**63:
        _refuse(check, f"time {time}", "a time within 63 bits")
    if key.type == COSIGNATURE:
        message = f"cosignature/v1\ntime {time}\n{note.text}".encode()
        _check_signature(check, key.raw, signature, message)
        return time
    try:
        MLDSA44PublicKey.from_public_bytes(key.raw).verify(signature, _message(note, key, time))
    except (InvalidSignature, ValueError):
        _refuse(check, "an ML-DSA-44 signature that does not verify", "one that does")
    return time


def _message(note: _Note, key: _Key, time: int) -> bytes:
    """c2sp.org/tlog-cosignature, "ML-DSA-44 signed message", of a whole tree."""
    name, origin = key.name.encode(), note.origin.encode()
    if len(name) > 255 or len(origin) > 255:
        _refuse("names of the checkpoint", f"{len(name)} bytes", "up to 255")
    head = b"subtree/v1\n\0" + bytes([len(name)]) + name + struct.pack(">Q", time)
    tail = struct.pack(">QQ", 0, note.tree.size) + note.tree.root
    return head + bytes([len(origin)]) + origin + tail


def _mldsa_keys(value: object, epoch: _Epoch, consortium: _Consortium) -> dict[str, bytes]:
    """ML-DSA-44 keys by digest: those of genesis, and those that the bundle brings."""
    if not isinstance(value, dict):
        _refuse("keys of the bundle", type(value).__name__, "a JSON object")
    found = dict(consortium.mldsa)
    stated = {member.organization: member.mldsa for member in epoch.members}
    for name, text in value.items():
        key = _unbase64(text, f"ML-DSA-44 key of {name}", KEY_BYTES[MLDSA])
        _same(f"digest of the ML-DSA-44 key of {name}", _digest(key), stated.get(name))
        found[hashlib.sha256(key).hexdigest()] = key
    return found


def _cosigned_by(
    note: _Note, epoch: _Epoch, mldsa: dict[str, bytes], consortium: _Consortium
) -> tuple[dict[str, int], list[str]]:
    """Members that cosigned, with their times, and those that also did with ML-DSA-44."""
    times: dict[str, int] = {}
    quantum: list[str] = []
    for member in epoch.members:
        holder, name = member.organization, f"{consortium.origin}/{member.organization}"
        _line_time(note, _Key(consortium.origin, LOG, member.log, holder))
        time = _line_time(note, _Key(name, COSIGNATURE, member.cosign, holder))
        if time is not None:
            times[holder] = time
        if member.mldsa in mldsa:
            key = _Key(name, MLDSA, mldsa[member.mldsa], f"{holder} (ML-DSA-44)")
            if _line_time(note, key) is not None:
                quantum.append(holder)
    return times, quantum


def _cosigned(
    note: _Note,
    epoch: _Epoch,
    mldsa: dict[str, bytes],
    consortium: _Consortium,
    proof: _Proof,
) -> list[_Link]:
    """What the checkpoint's lines are worth: a link when k members cosigned."""
    times, quantum = _cosigned_by(note, epoch, mldsa, consortium)
    proof.facts["cosigned"] = f"{epoch.of(len(times))}, {epoch.k} wanted"
    if quantum:
        proof.facts["signed with ML-DSA-44"] = quantum
    if len(times) < epoch.k:
        return []
    proof.facts |= {"signers": list(times), "quorum": epoch.of(epoch.k)}
    proof.facts["time"] = _time(1000 * sorted(times.values())[epoch.k - 1])
    proof.proven.append(
        f"{epoch.of(len(times))} members cosigned the ledger of {proof.tree.size} entries"
    )
    return [_link(len(times), epoch, epoch.k, "{} members cosigned the head")]


def _witness(text: str) -> _Key:
    """The key in `name+id+base64(type, key)`, of a cosigner outside the consortium."""
    name, _, rest = text.partition("+")
    identifier, _, encoded = rest.partition("+")
    data = _unbase64(encoded, "verifier key of a witness")
    if data[:1] not in (b"\x04", b"\x06") or KEY_BYTES[data[0]] != len(data) - 1 or not name:
        _refuse("verifier key of a witness", text[:80], "a cosigner's: type 4 or 6")
    key = _Key(name, data[0], data[1:], name)
    _same("id of the witness' key", identifier.lower(), key.id.hex())
    return key


def _check_witnesses(note: _Note | None, witnesses: list[_Key], proof: _Proof) -> None:
    if note is None:
        _refuse("signatures of the head", "no checkpoint", "one that the witnesses cosigned")
    for key in witnesses:
        time = _line_time(note, key)
        if time is None:
            _refuse("witnesses of the checkpoint", f"no line of {key.name}", "its cosignature")
        proof.outside += [key.name] if key.name not in proof.outside else []
        proof.proven.append(
            f"{key.name}, outside the consortium, cosigned it: {_time(1000 * time)}"
        )


def _check_trusted(trusted: bytes, proof: _Proof, consortium: _Consortium) -> None:
    """The proof's ledger extends the checkpoint that the reader trusts already."""
    try:
        note = _note(trusted.decode(), consortium)
    except UnicodeDecodeError as error:
        _refuse("form of the trusted checkpoint", error, "UTF-8")
    path: list[bytes] = []
    if note.tree.size != proof.tree.size:
        if proof.since is None or proof.since[0] != note.tree.size:
            found = "none" if proof.since is None else f"one from size {proof.since[0]}"
            _refuse("consistency proof of the bundle", found, f"from size {note.tree.size}")
        path = proof.since[1]
    _check_consistency("history since the trusted checkpoint", note.tree, proof.tree, path)
    proof.proven.append(f"it extends the checkpoint of {note.tree.size} entries that you trust")


def _check_consistency(check: str, old: _Tree, new: _Tree, path: list[bytes]) -> None:
    """RFC 9162, section 2.1.4.2."""
    if not 0 < old.size <= new.size:
        _refuse(check, f"from size {old.size} to {new.size}", "a tree that grew")
    if old.size == new.size:
        if path or old.root != new.root:
            _refuse(check, "two trees of one size", "the same root")
        return
    steps = [old.root, *path] if old.size & (old.size - 1) == 0 else path
    position, last = old.size - 1, new.size - 1
    while position % 2:
        position, last = position >> 1, last >> 1
    if not steps:
        _refuse(check, "no hashes", "a consistency proof")
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            _refuse(check, f"{len(path)} hashes", "a path that ends at the root")
        if position % 2 or position == last:
            before, after = _hash(b"\1", step, before), _hash(b"\1", step, after)
            while position and position % 2 == 0:
                position, last = position >> 1, last >> 1
        else:
            after = _hash(b"\1", after, step)
        position, last = position >> 1, last >> 1
    if last or before != old.root or after != new.root:
        _refuse(check, "a history that does not lead there", f"one to root {new.root.hex()}")


# ---- header and certificate ----


def _tree_of_header(parts: dict[str, Any]) -> _Tree:
    data = _unhex(parts.get("header"), "header", HEADER.size)
    return _Tree(*HEADER.unpack(data)[9:11])


def _finality(
    parts: dict[str, Any], epoch: _Epoch, consortium: _Consortium, proof: _Proof
) -> _Link:
    """The head is that of a final block."""
    header = _header(parts.get("header"), consortium, epoch)
    signers = _certificate(parts.get("certificate"), header, consortium, epoch)
    _same("size of the header", header.size, proof.tree.size)
    _same("root of the header", header.root.hex(), proof.tree.root.hex())
    proof.facts |= {"height": header.height, "time": _time(header.time_ms), "signers": signers}
    proof.facts["quorum"] = epoch.of(epoch.q)
    proof.proven.append(
        f"{epoch.of(len(signers))} members signed that the ledger of {header.size} entries is final"
    )
    return _link(len(signers), epoch, epoch.q, "{} members voted that the head is final")


@dataclass(frozen=True, slots=True)
class _Header:
    """What a proof needs of a block's header."""

    hash: bytes
    view: int
    height: int
    size: int
    root: bytes
    time_ms: int


def _header(text: object, consortium: _Consortium, of: _Epoch) -> _Header:
    data = _unhex(text, "header", HEADER.size)
    version, net, epoch, view, height, _, _, _, _, size, root, _, time_ms, _ = HEADER.unpack(data)
    _same("version of the header", version, 1)
    _same("consortium of the header", net.hex(), consortium.net)
    _same("epoch of the header", epoch, of.number)
    return _Header(_hash(b"tilth/header/1\0", data), view, height, size, root, time_ms)


def _certificate(text: object, header: _Header, consortium: _Consortium, of: _Epoch) -> list[str]:
    """The organizations whose signatures make the header final."""
    data = _unhex(text, "certificate")
    n = len(of.members)
    start = CERTIFICATE.size + (n + 7) // 8
    if len(data) < start:
        _refuse("length of the certificate", f"{len(data)} bytes", f"at least {start}")
    kind, epoch, view, block, width = CERTIFICATE.unpack_from(data)
    _same("kind of the certificate", kind, FINALIZE)
    _same("epoch of the certificate", epoch, of.number)
    _same("view of the certificate", view, header.view)
    _same("block of the certificate", block.hex(), header.hash.hex())
    _same("number of members of the certificate", width, n)
    bits = "".join(f"{byte:08b}" for byte in data[CERTIFICATE.size : start])
    signers = [place for place, bit in enumerate(bits) if bit == "1"]
    if len(signers) < of.q or signers[-1] >= n:
        _refuse("members of the certificate", signers, f"at least {of.q} of 0 to {n - 1}")
    _same("signatures of the certificate", len(data) - start, 64 * len(signers))
    vote = VOTE.pack(bytes.fromhex(consortium.net), epoch, kind, view, block)
    for place, member in enumerate(signers):
        who = of.members[member]
        signature, check = data[start + 64 * place :][:64], f"finality vote of {who.organization}"
        _check_signature(check, who.vote, signature, b"tilth/vote/1\0" + vote)
    return [of.members[member].organization for member in signers]


# ---- leaves ----


@dataclass(frozen=True, slots=True)
class _Leaf:
    """An envelope that was found in the tree."""

    type: int
    payload: bytes
    content: dict[str, Any]
    signatures: list[tuple[str, bytes]]  # key id, signature


Leaves = dict[int, _Leaf]


@dataclass(frozen=True, slots=True)
class _Form:
    """How a version writes a leaf: a field, and what reads its bytes and its path."""

    field: str
    leaf: Callable[[object, str], bytes]
    path: Callable[[object, str], list[bytes]]


def _base64_leaf(item: object, what: str) -> bytes:
    return _unbase64(_get(item, "leaf", str, what), what)


def _hex_path(leaf: object, what: str) -> list[bytes]:
    return [_unhex(step, f"path of {what}", 32) for step in _get(leaf, "path", list, what)]


FORM_1 = _Form("leaf", _base64_leaf, _hex_path)


def _leaves(value: object, tree: _Tree, form: _Form) -> Leaves:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LEAVES:
        _refuse("leaves of the bundle", type(value).__name__, f"a list of 1 to {MAX_LEAVES}")
    found: Leaves = {}
    for item in value:
        index = _get(item, "index", int, "leaf")
        what = f"leaf {index}"
        _same(f"fields of {what}", sorted(item), ["index", form.field, "path"])
        if index in found:
            _refuse("leaves of the bundle", f"{what} twice", "each once")
        data, path = form.leaf(item, what), form.path(item, what)
        _check_inclusion(f"place of {what} in the tree", data, index, path, tree)
        found[index] = _leaf(what, data)
    return found


def _check_inclusion(check: str, data: bytes, index: int, path: list[bytes], tree: _Tree) -> None:
    """RFC 9162, section 2.1.3.2."""
    if not 0 <= index < tree.size:
        _refuse(check, f"index {index}", f"below the size {tree.size}")
    position, last, hashed = index, tree.size - 1, _hash(b"\0", data)
    for step in path:
        if last == 0:
            _refuse(check, f"a path of {len(path)} hashes", "one that ends at the root")
        if position % 2 or position == last:
            hashed = _hash(b"\1", step, hashed)
            while position and position % 2 == 0:
                position, last = position >> 1, last >> 1
        else:
            hashed = _hash(b"\1", hashed, step)
        position, last = position >> 1, last >> 1
    if last or hashed != tree.root:
        _refuse(check, f"a path to {hashed.hex()}", f"to the root {tree.root.hex()}")


def _leaf(what: str, data: bytes) -> _Leaf:
    if not 8 <= len(data) <= MAX_LEAF_BYTES:
        _refuse(f"size of {what}", f"{len(data)} bytes", f"8 to {MAX_LEAF_BYTES}")
    version, kind, length = struct.unpack_from(">BHI", data)
    _same(f"version of {what}", version, 1)
    if kind not in PAYLOAD_TYPES:
        _refuse(f"type of {what}", kind, sorted(PAYLOAD_TYPES))
    payload, rest = data[7 : 7 + length], data[7 + length :]
    if not rest or len(rest) != 1 + 96 * rest[0]:
        _refuse(f"signatures of {what}", f"{len(rest)} bytes", "a count, and 96 bytes for each")
    signed = [(rest[at : at + 32].hex(), rest[at + 32 : at + 96]) for at in range(1, len(rest), 96)]
    return _Leaf(kind, payload, _json(payload, f"payload of {what}", MAX_LEAF_BYTES), signed)


# ---- authors ----


def _authors(
    leaves: Leaves, authors: dict[str, _Author], consortium: _Consortium, report: Report
) -> dict[str, _Author]:
    """Check every author's signature; keys come from genesis, from an epoch's beginning, or from an
    admin's entry before."""
    known = dict(authors)
    for index, leaf in sorted(leaves.items()):
        what = f"entry {index}"
        if leaf.type != ENTRY:
            _same(f"signatures of system leaf {index}", len(leaf.signatures), 0)
            continue
        author = _get(leaf.content, "author", str, what)
        _same(f"consortium of {what}", leaf.content.get("net"), consortium.net)
        _same(f"signers of {what}", [key_id for key_id, _ in leaf.signatures], [author])
        if author not in known:
            report.not_proven.append(f"who wrote {what}: the key {author[:16]}... is not proven")
            continue
        who = known[author]
        _same(f"organization of {what}", leaf.content.get("organization"), who.organization)
        kind = PAYLOAD_TYPES[ENTRY].encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(leaf.payload), leaf.payload)
        _check_signature(f"signature of {what}", who.key, leaf.signatures[0][1], signed)
        roles = ", ".join(sorted(who.roles))
        report.proven.append(f"{what} was signed by {who.organization} ({roles})")
        if "admin" in who.roles:
            known |= _introduced(leaf, who.organization, what)
    return known


def _introduced(leaf: _Leaf, organization: str, what: str) -> dict[str, _Author]:
    """The keys to which an admin gave roles in this entry."""
    found = {}
    for operation in _operations(leaf, "identity.add", what):
        key = _unhex(operation.get("public"), f"public key in {what}", 32)
        roles = [str(role) for role in _get(operation, "roles", list, what)]
        found[_key_id(key)] = _Author(organization, key, frozenset(roles))
    return found


def _operations(leaf: _Leaf, name: str, what: str) -> list[dict[str, Any]]:
    operations = _get(leaf.content, "operations", list, what)
    return [item for item in operations if isinstance(item, dict) and item.get("op") == name]


# ---- certified results ----


@dataclass(frozen=True, slots=True)
class _Result:
    """One certified score on one test set."""

    index: int
    predicate: dict[str, Any]
    digests: dict[str, str]
    score: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        names = ("worker", "dataset", "set", "grade", "task", "attempt", "organization", "final")
        facts = {name: self.predicate.get(name) for name in names}
        return facts | {"index": self.index} | {k: self.score.get(k) for k in ("value", "count")}


def _result(
    index: int, leaves: Leaves, known: dict[str, _Author], consortium: _Consortium
) -> _Result:
    """A certified result that agrees with the worker's signed entry from which it follows."""
    what = f"certified result {index}"
    content = leaves[index].content
    _same(f"type of {what}", content.get("_type"), STATEMENT)
    _same(f"predicate of {what}", content.get("predicateType"), PREDICATE)
    predicate = _get(content, "predicate", dict, what)
    _same(f"consortium of {what}", predicate.get("net"), consortium.net)
    at = _get(_get(predicate, "entries", dict, what), "done", int, what)
    if at not in leaves or leaves[at].type != ENTRY:
        _refuse(f"worker's entry of {what}", f"nothing at index {at}", "its task.done")
    worker = _get(predicate, "worker", str, what)
    who = known.get(leaves[at].signatures[0][0])
    if who is None or who.organization != worker or "node" not in who.roles:
        _refuse(f"author of the worker's entry of {what}", who, f"the node of {worker}")
    _same(f"owner of the data of {what}", str(predicate.get("dataset")).split("/")[0], worker)
    done = [
        operation
        for operation in _operations(leaves[at], "task.done", what)
        if operation.get("task") == predicate.get("task")
    ]
    if len(done) != 1:
        _refuse(f"worker's entry of {what}", f"{len(done)} reports of its task", "one")
    for name in ("score", "attempt"):
        _same(f"{name} of {what}", predicate.get(name), done[0].get(name))
    receipt = _get(done[0], "receipt", dict, what)
    _same(f"grade of {what}", predicate.get("grade"), receipt.get("grade"))
    _same(f"labels of {what}", receipt.get("labels"), "sealed")
    _same(f"data check of {what}", receipt.get("data_check"), "content")
    digests = _subjects(_get(content, "subject", list, what), what)
    _check_receipt(what, digests, predicate, receipt)
    return _Result(index, predicate, digests, _get(predicate, "score", dict, what))


def _subjects(value: list[Any], what: str) -> dict[str, str]:
    found = {}
    for subject in value:
        name = _get(subject, "name", str, what)
        digest = _get(subject, "digest", dict, what).get("sha256")
        found[name] = _unhex(digest, f"digest of the {name} of {what}", 32).hex()
    _same(f"subjects of {what}", sorted(found), ["algo", "dataset", "evaluation", "model"])
    return found


def _check_receipt(
    what: str, digests: dict[str, str], predicate: dict[str, Any], receipt: dict[str, Any]
) -> None:
    """What the result names is what the worker's receipt says went into the test."""
    inputs = _get(receipt, "inputs", dict, what)
    if digests["model"] not in inputs.values():
        _refuse(f"model of {what}", digests["model"], f"one of {_compact(inputs)}")
    _same(f"set_digest of {what}", predicate.get("set_digest"), receipt.get("set"))
    codes = _get(receipt, "codes", dict, what)
    for subject, folder in (("algo", "code"), ("dataset", "opener"), ("evaluation", "metric")):
        _same(f"{subject} of {what}", digests[subject], codes.get(folder))
    metric = predicate.get("metric")
    if isinstance(metric, dict) and isinstance(metric.get("builtin"), str):
        builtin = _hash(_compact({"builtin": metric["builtin"]}).encode()).hex()
        _same(f"evaluation of {what}", digests["evaluation"], builtin)


# ---- a recorded leaderboard: that a row stood at a size ----


@dataclass(frozen=True, slots=True)
class _Standing:
    """A row that is said to stand on the board in the leaf at `index`."""

    index: int
    place: int
    row: bytes
    path: list[bytes]


def _standing_row(value: object, hashes: _Hashes) -> _Standing:
    names = ["index", "path", "place", "row"]
    _same("fields of the standing", sorted(value) if isinstance(value, dict) else value, names)
    index, place = (_get(value, name, int, "standing") for name in ("index", "place"))
    try:
        row = _get(value, "row", str, "standing").encode()
    except UnicodeEncodeError as error:
        _refuse("row of the standing", error, "text that UTF-8 can hold")
    return _Standing(index, place, row, hashes.path(value, "path", "standing"))


def _stood(
    standing: _Standing,
    results: list[_Result],
    leaves: Leaves,
    consortium: _Consortium,
    report: Report,
) -> int:
    """The size at which the proven row stood, on the board that all voters recomputed there."""
    what = f"leaderboard {standing.index}"
    leaf = leaves.get(standing.index)
    if leaf is None or leaf.type != LEADERBOARD or not results:
        _refuse(f"leaf of {what}", "none, or another", "a recorded leaderboard, beside its row")
    board, row = leaf.content, _json(standing.row, f"row on {what}", MAX_LEAF_BYTES)
    _same(f"consortium of {what}", board.get("net"), consortium.net)
    size, count = _get(board, "size", int, what), _get(board, "count", int, what)
    tree = _Tree(count, _unhex(board.get("root"), f"root of {what}", 32))
    check = f"place of the row on {what}"
    _check_inclusion(check, standing.row, standing.place, standing.path, tree)
    for name in ("objective", "revision"):
        _same(f"{name} of {what}", board.get(name), results[0].predicate.get(name))
    for name in ("model", "algo"):
        _same(f"{name} of the row on {what}", row.get(name), results[0].digests[name])
    indexes = [result.index for result in results]
    _same(f"results of the row on {what}", row.get("certified"), indexes)
    if not indexes[-1] < size <= standing.index:
        _refuse(f"size of {what}", size, f"{indexes[-1] + 1} to {standing.index}")
    value = _value(results)
    if value is not None:
        _same(f"value of the row on {what}", row.get("value"), _decimal(value))
    at = f"size {size} ({_time(_get(board, 'time_ms', int, what))})"
    report.facts["stood"] = f"at {at}: rank {row.get('rank')}, one of {count} rows"
    report.proven.append(f"the row stood at {at}: nothing behind it had been withdrawn")
    accused = _get(row, "accused", list, f"row on {what}")
    if accused:
        report.facts["evidence at that size"] = accused
    return size


# ---- a leaderboard row: results of one model on all test sets of one objective ----


def _row(results: list[_Result], leaves: Leaves, known: dict[str, _Author], report: Report) -> None:
    first = results[0]
    shared = ("objective", "revision", "metric", "combine", "direction", "primary")
    for other in results[1:]:
        for name in shared:
            _same(f"{name} of all results", other.predicate.get(name), first.predicate.get(name))
        for name in ("model", "algo"):  # one file read by two algos is two models
            _same(f"{name} of all results", other.digests[name], first.digests[name])
    sets = [_get(result.predicate, "set", str, "certified result") for result in results]
    _check_unique("test sets of the results", sets)
    report.facts |= {name: first.predicate.get(name) for name in shared}
    report.facts |= {"model": first.digests["model"], "algo": first.digests["algo"]}
    report.facts["results"] = [result.as_dict() for result in results]
    report.not_proven += [
        f"that certified result {result.index} counts: it repeats an earlier test of this model"
        for result in results
        if "again" in result.predicate
    ]
    report.proven += [
        f"{result.predicate['worker']} signed the score of certified result {result.index},"
        " on its own test data; it states sealed labels, and data hashed before"
        for result in results
    ]
    wanted = _objective_sets(first, leaves, known)
    if not wanted:
        # Who leaves the entry out may have left results out as well: the worse ones.
        text = "which test sets the objective has, and so the score: its entry is not proven here"
        report.not_proven.append(text)
        return
    if not set(sets) <= wanted:
        _refuse("test sets of the results", sets, sorted(wanted))
    if wanted > set(sets):
        report.not_proven.append(f"the score over all {len(wanted)} test sets: {len(sets)} proven")
        return
    _combined(results, report)


def _objective_sets(result: _Result, leaves: Leaves, known: dict[str, _Author]) -> set[str]:
    """The test sets that the objective's signed entry names; none if it is not in the bundle."""
    what = "entry of the objective"
    at = result.predicate["entries"].get("objective")
    leaf = leaves.get(at) if type(at) is int else None
    if leaf is None or leaf.type != ENTRY or leaf.signatures[0][0] not in known:
        return set()
    who, key = known[leaf.signatures[0][0]], result.predicate.get("objective")
    owner = str(key).split("/")[0]
    if who.organization != owner or "organizer" not in who.roles:
        by = f"{who.organization} ({', '.join(sorted(who.roles))})"
        _refuse(f"author of the {what}", by, f"an organizer of {owner}")
    written = _operations(leaf, "objective.add", what) + _operations(leaf, "objective.revise", what)
    found = [item for item in written if item.get("key") == key]
    if len(found) != 1:
        _refuse(what, f"{len(found)} operations on it", "one")
    for name in ("metric", "combine", "direction", "primary"):
        if name in found[0]:
            _same(f"{name} of the results", result.predicate.get(name), found[0][name])
    return {_get(item, "set", str, what) for item in _get(found[0], "sets", list, what)}


def _combined(results: list[_Result], report: Report) -> None:
    """The row's score over all its test sets, in exact arithmetic."""
    if len(results) == 1:
        report.facts["score"] = results[0].score.get("value")
        return
    rule, value = results[0].predicate.get("combine"), _value(results)
    if value is None:
        report.not_proven.append(f"the score over all test sets: cannot combine them by {rule}")
        return
    report.facts["score"] = _decimal(value)
    report.proven.append(f"the score {_decimal(value)} is that of all {len(results)} sets, {rule}")


def _value(results: list[_Result]) -> Fraction | None:
    """The score over the sets of these results; None where it cannot be combined here."""
    combine = COMBINE.get(str(results[0].predicate.get("combine")))
    try:
        return combine(results) if combine else None
    except (ValueError, ZeroDivisionError):
        return None


def _weighted(results: list[_Result], weights: list[int]) -> Fraction:
    values = [_get(result.score, "value", str, "score") for result in results]
    for value in values:
        if not DECIMAL.fullmatch(value):
            _refuse("value of a score", value, "a decimal")
    pairs = zip(map(Fraction, values), weights, strict=True)
    return sum((value * weight for value, weight in pairs), Fraction()) / sum(weights)


def _by_count(results: list[_Result]) -> Fraction:
    return _weighted(results, [_get(result.score, "count", int, "score") for result in results])


def _by_site(results: list[_Result]) -> Fraction:
    return _weighted(results, [1] * len(results))


def _pooled(results: list[_Result]) -> Fraction | None:
    """The metric of the summed confusion matrices, whose rows are the truth."""
    total: Counter[tuple[str, str]] = Counter()
    for result in results:
        statistics = _get(result.score, "statistics", dict, "score")
        labels = [_compact(label) for label in _get(statistics, "labels", list, "statistics")]
        rows = _get(statistics, "matrix", list, "statistics")
        for truth, row in zip(labels, rows, strict=True):
            for guess, count in zip(labels, _children(row), strict=True):
                if type(count) is not int or count < 0:
                    _refuse("confusion matrix of a score", count, "counts")
                total[truth, guess] += count
    metric = results[0].predicate.get("metric")
    name = metric.get("builtin") if isinstance(metric, dict) else None
    reduce = POOLED.get(str(name))
    return reduce(_Margins(total)) if reduce else None


class _Margins:
    """Sums of a confusion matrix: in all, and by label right, of the truth, of the guess."""

    def __init__(self, matrix: Counter[tuple[str, str]]) -> None:
        self.all = sum(matrix.values())
        self.right: Counter[str] = Counter()
        self.truth: Counter[str] = Counter()
        self.guess: Counter[str] = Counter()
        for (truth, guess), count in matrix.items():
            self.truth[truth] += count
            self.guess[guess] += count
            self.right[truth] += count if truth == guess else 0


def _mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)


def _accuracy(sums: _Margins) -> Fraction:
    return Fraction(sums.right.total(), sums.all)


def _balanced_accuracy(sums: _Margins) -> Fraction:
    return _mean([Fraction(sums.right[label], n) for label, n in sums.truth.items() if n])


def _f1(sums: _Margins) -> Fraction:
    sizes = {label: sums.truth[label] + sums.guess[label] for label in sums.truth}
    return _mean([Fraction(2 * sums.right[label], n) for label, n in sizes.items() if n])


def _kappa(sums: _Margins) -> Fraction:
    by_chance = sum(sums.truth[label] * sums.guess[label] for label in sums.truth)
    chance = Fraction(by_chance, sums.all**2)
    return (_accuracy(sums) - chance) / (1 - chance)


POOLED: dict[str, Callable[[_Margins], Fraction]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "kappa": _kappa,
}
COMBINE: dict[str, Callable[[list[_Result]], Fraction | None]] = {
    "by_count": _by_count,
    "by_site": _by_site,
    "pooled": _pooled,
}


def _decimal(value: Fraction) -> str:
    """Six digits after the point, half to even."""
    scaled = round(value * 10**6)
    digits = f"{abs(scaled):07d}"
    return f"{'-' if scaled < 0 else ''}{digits[:-6]}.{digits[-6:]}"


def main(arguments: list[str] | None = None) -> int:
    """Check the files named on the command line and print the report."""
    parser = argparse.ArgumentParser(description="Check a Tilth proof bundle offline.")
    parser.add_argument("genesis", type=Path, help="the genesis file of the consortium you trust")
    parser.add_argument("bundle", type=Path, help="the proof bundle, for example row.json")
    parser.add_argument("--trusted", type=Path, help="a checkpoint that the ledger must extend")
    parser.add_argument(
        "--witness", action="append", default=[], help="verifier key of a cosigner outside"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(arguments)
    try:
        genesis, bundle = given.genesis.read_bytes(), given.bundle.read_bytes()
        trusted = given.trusted.read_bytes() if given.trusted else None
    except OSError as error:
        sys.stderr.write(f"cannot read {error.filename}: {error.strerror}\n")
        return 2
    report = verify(bundle, genesis, trusted=trusted, witnesses=tuple(given.witness))
    text = json.dumps(report.as_dict(), indent=2) if given.json else str(report)
    sys.stdout.write(f"{text}\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
