"""The independent verifier: genesis file and proof bundle in, what is proven and what is not out.

    python verifier.py genesis.json row.json [--json]      exit: 0 proven, 1 refused, 2 cannot read

One file, Python's standard library and `cryptography` only. It shares no code with the node or the
SDK: hashing, the Merkle tree, certificates and envelopes are written here a second time from the
specification, so that a mistake there is not repeated here.

Invariants:
- No network, no clock, no other file. `verify` never raises on hostile bytes: sizes, counts and
  depths are bounded, and a failed check becomes a refusal that says what was found and expected.
- Nothing in the bundle is believed but what hashes to the root that q members signed.

What it cannot know, it says: `Report.not_proven`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import struct
import sys
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

T = TypeVar("T")

MAX_GENESIS_BYTES = 64 << 20
MAX_BUNDLE_BYTES = 32 << 20
MAX_LEAF_BYTES = 65_535
MAX_LEAVES = 256
MAX_DEPTH = 32

# version, net, epoch, view, height, parent, parent's view, skips, leaf count, size, root, state,
# time, proposer
HEADER = struct.Struct(">H32sQQQ32sQ32sIQ32s32sQH")
CERTIFICATE = struct.Struct(">BQQ32sH")  # kind, epoch, view, block, number of members
VOTE = struct.Struct(">32sQBQ32s")  # net, epoch, kind, view, block
FINALIZE = 3
ENTRY, CERTIFIED = 1, 0x0101
PAYLOAD_TYPES = {
    ENTRY: "application/vnd.tilth.entry.v1+json",
    CERTIFIED: "application/vnd.in-toto+json",
}
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:tilth:certified-result:1"
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


def verify(bundle: bytes, genesis: bytes) -> Report:
    """Check a proof bundle against the genesis file of the consortium that one trusts."""
    report = Report()
    try:
        _verify(bundle, genesis, report)
    except _Refusal as refusal:
        return Report(refusal=refusal.facts)
    report.ok = True
    return report


def _verify(bundle: bytes, genesis: bytes, report: Report) -> None:
    consortium = _consortium(genesis)
    parts = _bundle(bundle, consortium)
    header = _header(parts["header"], consortium)
    signers = _certificate(parts["certificate"], header, consortium)
    leaves = _leaves(parts["leaves"], header)
    n = len(consortium.members)
    report.facts |= {
        "consortium": consortium.name,
        "genesis": consortium.net,
        "size": header.size,
        "root": header.root.hex(),
        "height": header.height,
        "time": _time(header.time_ms),
        "signers": signers,
        "quorum": f"{consortium.q} of {n}",
    }
    report.proven += [
        f"{len(signers)} of {n} members signed that the ledger of {header.size} entries is final",
        f"{len(leaves)} entries stand in it unchanged, at {', '.join(map(str, sorted(leaves)))}",
    ]
    known = _authors(leaves, consortium, report)
    results = [
        _result(index, leaves, known, consortium)
        for index, leaf in sorted(leaves.items())
        if leaf.type == CERTIFIED
    ]
    if results:
        _row(results, leaves, known, report)
        report.not_proven += [
            "that the workers' word is true: each score is a signed statement; a re-run checks it",
            "that no two organizations hold the same data",
        ]
    report.not_proven += [
        f"that nothing was revoked or withdrawn after size {header.size}",
        f"anything, if {2 * consortium.q - n} or more of the {n} members sign two histories",
    ]


def _time(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        _refuse("time of the header", f"{milliseconds} ms", "a time before the year 10000")
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
        if len(text) > 17 or abs(int(text)) >= 2**53:
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
class _Consortium:
    """What a proof needs of a genesis file."""

    net: str
    name: str
    q: int
    members: list[tuple[str, bytes]]  # organization, vote key
    authors: dict[str, _Author]  # by key id


def _consortium(data: bytes) -> _Consortium:
    value = _json(data, "genesis", MAX_GENESIS_BYTES)
    _same("format of the genesis", value.get("format"), "tilth-genesis-1")
    _same("rules_version of the genesis", value.get("rules_version"), 1)
    members = _get(value, "members", list, "genesis")
    parties = members + _get(value, "organizations", list, "genesis")
    names = [_get(party, "organization", str, "genesis") for party in parties]
    keys = [_keys(party, name) for party, name in zip(parties, names, strict=True)]
    _check_unique("organizations of the genesis", names)
    _check_unique("keys of the genesis", [key for held in keys for key in held.values()])
    q, n = _get(value, "q", int, "genesis"), len(members)
    if not n < 2 * q <= 2 * n:
        _refuse("q of the genesis", f"{q} of {n} members", "more than half, and no more than all")
    return _Consortium(
        net=hashlib.sha256(data).hexdigest(),
        name=_get(value, "name", str, "genesis"),
        q=q,
        members=[(name, held["vote"]) for name, held in zip(names[:n], keys, strict=False)],
        authors={
            _key_id(held[role]): _Author(name, held[role], frozenset((role,)))
            for name, held in zip(names, keys, strict=True)
            for role in ("admin", "node")
        },
    )


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


# ---- header and certificate ----


def _bundle(data: bytes, consortium: _Consortium) -> dict[str, Any]:
    value = _json(data, "bundle", MAX_BUNDLE_BYTES)
    _same("format of the bundle", value.get("format"), "tilth-bundle-1")
    fields = ["certificate", "format", "genesis", "header", "leaves"]
    _same("fields of the bundle", sorted(value), fields)
    _same("genesis of the bundle", value["genesis"], consortium.net)
    return value


@dataclass(frozen=True, slots=True)
class _Header:
    """What a proof needs of a block's header."""

    hash: bytes
    view: int
    height: int
    size: int
    root: bytes
    time_ms: int


def _header(text: object, consortium: _Consortium) -> _Header:
    data = _unhex(text, "header", HEADER.size)
    version, net, epoch, view, height, _, _, _, _, size, root, _, time_ms, _ = HEADER.unpack(data)
    _same("version of the header", version, 1)
    _same("consortium of the header", net.hex(), consortium.net)
    _same("epoch of the header", epoch, 0)
    return _Header(_hash(b"tilth/header/1\0", data), view, height, size, root, time_ms)


def _certificate(text: object, header: _Header, consortium: _Consortium) -> list[str]:
    """The organizations whose signatures make the header final."""
    data = _unhex(text, "certificate")
    n = len(consortium.members)
    start = CERTIFICATE.size + (n + 7) // 8
    if len(data) < start:
        _refuse("length of the certificate", f"{len(data)} bytes", f"at least {start}")
    kind, epoch, view, block, width = CERTIFICATE.unpack_from(data)
    _same("kind of the certificate", kind, FINALIZE)
    _same("epoch of the certificate", epoch, 0)
    _same("view of the certificate", view, header.view)
    _same("block of the certificate", block.hex(), header.hash.hex())
    _same("number of members of the certificate", width, n)
    bits = "".join(f"{byte:08b}" for byte in data[CERTIFICATE.size : start])
    signers = [place for place, bit in enumerate(bits) if bit == "1"]
    if len(signers) < consortium.q or signers[-1] >= n:
        _refuse("members of the certificate", signers, f"at least {consortium.q} of 0 to {n - 1}")
    _same("signatures of the certificate", len(data) - start, 64 * len(signers))
    vote = VOTE.pack(bytes.fromhex(consortium.net), epoch, kind, view, block)
    for place, member in enumerate(signers):
        name, key = consortium.members[member]
        signature = data[start + 64 * place :][:64]
        _check_signature(f"finality vote of {name}", key, signature, b"tilth/vote/1\0" + vote)
    return [consortium.members[member][0] for member in signers]


# ---- leaves ----


@dataclass(frozen=True, slots=True)
class _Leaf:
    """An envelope that was found in the tree."""

    type: int
    payload: bytes
    content: dict[str, Any]
    signatures: list[tuple[str, bytes]]  # key id, signature


Leaves = dict[int, _Leaf]


def _leaves(value: object, header: _Header) -> Leaves:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_LEAVES:
        _refuse("leaves of the bundle", type(value).__name__, f"a list of 1 to {MAX_LEAVES}")
    found: Leaves = {}
    for item in value:
        index = _get(item, "index", int, "leaf")
        what = f"leaf {index}"
        _same(f"fields of {what}", sorted(item), ["index", "leaf", "path"])
        if index in found:
            _refuse("leaves of the bundle", f"{what} twice", "each once")
        text = _get(item, "leaf", str, what)
        try:
            data = b64decode(text, validate=True)
        except ValueError as error:
            _refuse(f"form of {what}", error, "base64")
        _same(f"form of {what}", text, b64encode(data).decode())
        path = [_unhex(step, f"path of {what}", 32) for step in _get(item, "path", list, what)]
        _check_inclusion(f"place of {what} in the tree", data, index, path, header)
        found[index] = _leaf(what, data)
    return found


def _check_inclusion(
    check: str, data: bytes, index: int, path: list[bytes], header: _Header
) -> None:
    """RFC 9162, section 2.1.3.2."""
    if not 0 <= index < header.size:
        _refuse(check, f"index {index}", f"below the size {header.size}")
    position, last, hashed = index, header.size - 1, _hash(b"\0", data)
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
    if last or hashed != header.root:
        _refuse(check, f"a path to {hashed.hex()}", f"to the root {header.root.hex()}")


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


def _authors(leaves: Leaves, consortium: _Consortium, report: Report) -> dict[str, _Author]:
    """Check every author's signature; keys come from genesis or from an admin's entry before."""
    known = dict(consortium.authors)
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
    written = _operations(leaf, "objective.add", what) + _operations(leaf, "objective.revise", what)
    found = [item for item in written if item.get("key") == result.predicate.get("objective")]
    if len(found) != 1:
        _refuse(what, f"{len(found)} operations on it", "one")
    for name in ("metric", "combine", "direction", "primary"):
        if name in found[0]:
            _same(f"{name} of the results", result.predicate.get(name), found[0][name])
    return {_get(item, "set", str, what) for item in _get(found[0], "sets", list, what)}


def _combined(results: list[_Result], report: Report) -> None:
    """The row's score over all its test sets, in exact arithmetic."""
    rule = results[0].predicate.get("combine")
    if len(results) == 1:
        report.facts["score"] = results[0].score.get("value")
        return
    combine = COMBINE.get(str(rule))
    try:
        value = combine(results) if combine else None
    except (ValueError, ZeroDivisionError):
        value = None
    if value is None:
        report.not_proven.append(f"the score over all test sets: cannot combine them by {rule}")
        return
    report.facts["score"] = _decimal(value)
    report.proven.append(f"the score {_decimal(value)} is that of all {len(results)} sets, {rule}")


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
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    given = parser.parse_args(arguments)
    try:
        genesis, bundle = given.genesis.read_bytes(), given.bundle.read_bytes()
    except OSError as error:
        sys.stderr.write(f"cannot read {error.filename}: {error.strerror}\n")
        return 2
    report = verify(bundle, genesis)
    text = json.dumps(report.as_dict(), indent=2) if given.json else str(report)
    sys.stdout.write(f"{text}\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
