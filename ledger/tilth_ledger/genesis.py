"""Genesis: the one file that defines a consortium; its SHA-256 is the consortium's name `net`.

Invariants:
- A genesis that parses has 1 to 150 members, no organization or key twice, n < 2q, and q <= k <= n.
- Unknown and missing fields are refused: what two nodes could read differently is no genesis.
- A member file proves that its sender holds every key in it: each signs the file's content.

Left to others: what the limits mean (limits), TLS (the node).
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from tilth_ledger import canonical, limits
from tilth_ledger.errors import InvalidInput
from tilth_ledger.keys import SIGNATURE_BYTES, PublicKey, SigningKey, unhex
from tilth_ledger.mldsa import MLDSA_SIGNATURE_BYTES, MlDsaKey, MlDsaSigningKey

FORMAT = "tilth-genesis-1"
MEMBER_FORMAT = "tilth-member-1"
RULES_VERSION = 1  # the newest; a new genesis begins with it
MAX_MEMBERS = limits.MEMBERS_AFTER_A_CHANGE  # more could never change
MAX_ORGANIZATIONS = 10_000
MAX_GENESIS_BYTES = 64 << 20
MAX_MEMBER_FILE_BYTES = 1 << 16
PUBLICATIONS = ("organizations", "public")
MLDSA = "cosign_mldsa"

_MEMBER_TAG = b"tilth/member/1\0"
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IN_WORDS = {_SLUG.pattern: "1 to 63 of a-z, 0-9 and hyphens, no hyphen at the ends"}
_NETWORK_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_LIMIT = re.compile(r"[a-z][a-z0-9_]{0,63}")
_ADDRESS = re.compile(r"[\x21-\x7e]{1,253}")
_HEX = re.compile(r"([0-9a-f]{2}){1,65535}")
_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/=]{1,76}\n){1,100}-----END CERTIFICATE-----\n?"
)


@dataclass(frozen=True, slots=True)
class MemberKeys:
    """One key per purpose, so that none can be used for another's."""

    vote: PublicKey
    cosign: PublicKey
    log: PublicKey
    node: PublicKey
    admin: PublicKey


KEY_NAMES = tuple(field.name for field in fields(MemberKeys))


@dataclass(frozen=True, slots=True)
class Organization:
    """One party as genesis lists it; a member is one that votes."""

    organization: str
    name: str
    votes: bool
    aggregates: bool
    keys: MemberKeys
    tls_authority: str
    peer_address: str | None = None
    client_address: str | None = None
    cosign_mldsa: MlDsaKey | None = None  # cosigns what audits read in ten years

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, as in genesis."""
        value: dict[str, Any] = {
            "organization": self.organization,
            "name": self.name,
            "votes": self.votes,
            "aggregates": self.aggregates,
            "keys": {name: getattr(self.keys, name).hex for name in KEY_NAMES},
            "tls_authority": self.tls_authority,
        }
        optional = {
            "peer_address": self.peer_address,
            "client_address": self.client_address,
            MLDSA: self.cosign_mldsa.hex if self.cosign_mldsa else None,
        }
        return value | {name: text for name, text in optional.items() if text is not None}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Organization:
        """The organization of a row, which was checked when it was written."""
        return Organization(
            organization=row["organization"],
            name=row["name"],
            votes=row["votes"],
            aggregates=row["aggregates"],
            keys=MemberKeys(**{key: PublicKey.from_hex(row["keys"][key]) for key in KEY_NAMES}),
            tls_authority=row["tls_authority"],
            peer_address=row.get("peer_address"),
            client_address=row.get("client_address"),
            cosign_mldsa=MlDsaKey.from_hex(row[MLDSA]) if MLDSA in row else None,
        )


@dataclass(frozen=True, slots=True)
class Quorums:
    """What a choice of q means for n members: liars it is safe from, members that may be away."""

    column: str
    q: int
    safe_from: int
    may_be_absent: int


def crash_quorum(n: int) -> int:
    """The default q: any two quorums share a member."""
    return n // 2 + 1


def byzantine_quorum(n: int) -> int:
    """The default k, and q for distrustful members: safe from floor((n - 1) / 3) liars."""
    return n - (n - 1) // 3


def quorum_columns(n: int) -> tuple[Quorums, Quorums]:
    """Both columns of the design's table, to print to the operator."""
    columns = ("crash", crash_quorum(n)), ("byzantine", byzantine_quorum(n))
    crash, byzantine = (Quorums(name, q, 2 * q - n - 1, n - q) for name, q in columns)
    return crash, byzantine


@dataclass(frozen=True, slots=True)
class Genesis:
    """A parsed genesis file; `bytes` are the file's, verbatim."""

    bytes: builtins.bytes
    net: str
    name: str
    members: tuple[Organization, ...]
    organizations: tuple[Organization, ...]  # those that do not vote
    q: int
    k: int
    limits: Mapping[str, int]
    delta_ms: int
    publication: str
    rules_version: int  # with which it began; an epoch's end may raise it
    continues: Mapping[str, Any] | None = None  # the checkpoint of an older ledger (rebase)

    @property
    def net_bytes(self) -> builtins.bytes:
        return builtins.bytes.fromhex(self.net)

    def everyone(self) -> tuple[Organization, ...]:
        """Members, then the organizations that do not vote."""
        return self.members + self.organizations

    @staticmethod
    def parse(data: builtins.bytes) -> Genesis:
        """The genesis in `data`; `InvalidInput` names what is wrong with it."""
        value = _object(
            canonical.loads(data, max_bytes=MAX_GENESIS_BYTES),
            "genesis",
            _GENESIS_FIELDS,
            frozenset(("continues",)),
        )
        _expect(value["format"] == FORMAT, "genesis format", value["format"], FORMAT)
        version = _integer(value["rules_version"], "genesis rules_version", 1, 1 << 20)
        _expect(
            version <= RULES_VERSION,
            "genesis rules_version",
            version,
            f"1 to {RULES_VERSION}, the versions that this release knows",
        )
        genesis = Genesis(
            bytes=data,
            net=canonical.sha256_hex(data),
            name=_matching(value["name"], _NETWORK_NAME, "genesis name"),
            members=_organizations(value["members"], votes=True, most=MAX_MEMBERS),
            organizations=_organizations(
                value["organizations"], votes=False, most=MAX_ORGANIZATIONS
            ),
            q=_integer(value["q"], "q", 1, MAX_MEMBERS),
            k=_integer(value["k"], "k", 1, MAX_MEMBERS),
            limits=_limits(value["limits"]),
            delta_ms=_integer(value["delta_ms"], "delta_ms", 1, 600_000),
            publication=value["publication"],
            rules_version=version,
            continues=_continues(value.get("continues")),
        )
        _expect(
            genesis.publication in PUBLICATIONS, "publication", genesis.publication, PUBLICATIONS
        )
        _check_quorums(genesis)
        _check_distinct(genesis)
        return genesis

    @staticmethod
    def write(
        name: str,
        members: Iterable[Organization],
        organizations: Iterable[Organization] = (),
        *,
        limits: Mapping[str, int],
        q: int | None = None,
        k: int | None = None,
        delta_ms: int = 300,
        publication: str = "organizations",
        rules_version: int | None = None,
        continues: Mapping[str, Any] | None = None,
    ) -> Genesis:
        """A new genesis; q defaults to the crash column, k to the byzantine one, the rules to the
        newest."""
        voting = [member.as_dict() | {"votes": True} for member in members]
        following = [other.as_dict() | {"votes": False} for other in organizations]
        chosen = crash_quorum(len(voting)) if q is None else q
        value = {
            "format": FORMAT,
            "rules_version": RULES_VERSION if rules_version is None else rules_version,
            "name": name,
            "members": voting,
            "organizations": following,
            "q": chosen,
            "k": max(chosen, byzantine_quorum(len(voting))) if k is None else k,
            "limits": dict(limits),
            "delta_ms": delta_ms,
            "publication": publication,
        } | ({} if continues is None else {"continues": dict(continues)})
        return Genesis.parse(canonical.dumps(value))


_GENESIS_FIELDS = frozenset(
    (
        *("format", "rules_version", "name", "members", "organizations"),
        *("q", "k", "limits", "delta_ms", "publication"),
    )
)
_PARTY_FIELDS = frozenset(("organization", "name", "votes", "aggregates", "keys", "tls_authority"))
_ADDRESSES = ("peer_address", "client_address")
_PARTY_OPTIONAL = frozenset((*_ADDRESSES, MLDSA))


def member_file(
    organization: str,
    name: str,
    keys: Mapping[str, SigningKey],
    tls_authority: str,
    *,
    aggregates: bool = False,
    peer_address: str | None = None,
    client_address: str | None = None,
    mldsa: MlDsaSigningKey | None = None,
) -> bytes:
    """The public file that a site hands over: who it is, signed by each of its keys."""
    party = Organization(
        organization,
        name,
        False,
        aggregates,
        MemberKeys(**{key: keys[key].public for key in KEY_NAMES}),
        tls_authority,
        peer_address,
        client_address,
        mldsa.public if mldsa else None,
    ).as_dict()
    del party["votes"]  # whoever writes the genesis decides that
    signed = _MEMBER_TAG + canonical.dumps(party)
    signatures = {key: keys[key].sign(signed).hex() for key in KEY_NAMES}
    if mldsa is not None:
        signatures[MLDSA] = mldsa.sign(signed).hex()
    data = canonical.dumps({"format": MEMBER_FORMAT, "member": party, "signatures": signatures})
    parse_member_file(data)
    return data


def parse_member_file(data: bytes) -> Organization:
    """The organization in a member file, after checking that it holds every key it names."""
    value = _object(
        canonical.loads(data, max_bytes=MAX_MEMBER_FILE_BYTES),
        "member file",
        frozenset(("format", "member", "signatures")),
    )
    _expect(value["format"] == MEMBER_FORMAT, "member file format", value["format"], MEMBER_FORMAT)
    party = _object(value["member"], "member", _PARTY_FIELDS - {"votes"}, _PARTY_OPTIONAL)
    member = _organization(party | {"votes": False}, votes=False)
    names = frozenset(KEY_NAMES) | ({MLDSA} if member.cosign_mldsa else set())
    signatures = _object(value["signatures"], "member's signatures", names)
    signed = _MEMBER_TAG + canonical.dumps(party)
    for name in KEY_NAMES:
        signature = unhex(signatures[name], SIGNATURE_BYTES, f"signature of the {name} key")
        getattr(member.keys, name).verify(signature, signed)
    if member.cosign_mldsa is not None:
        signature = unhex(signatures[MLDSA], MLDSA_SIGNATURE_BYTES, "signature of the ML-DSA key")
        member.cosign_mldsa.verify(signature, signed)
    _expect_distinct([getattr(member.keys, name).hex for name in KEY_NAMES], "key")
    return member


def _organizations(value: object, *, votes: bool, most: int) -> tuple[Organization, ...]:
    what = "members" if votes else "organizations"
    least = 1 if votes else 0
    if not isinstance(value, list) or not least <= len(value) <= most:
        found = len(value) if isinstance(value, list) else type(value).__name__
        raise InvalidInput(f"genesis {what} are wrong", found=found, expected=f"{least} to {most}")
    return tuple(_organization(item, votes=votes) for item in value)


def _organization(value: object, *, votes: bool) -> Organization:
    party = _object(value, "organization", _PARTY_FIELDS, _PARTY_OPTIONAL)
    _expect(party["votes"] is votes, "votes", party["votes"], votes)
    _expect(type(party["aggregates"]) is bool, "aggregates", party["aggregates"], "true or false")
    keys = _object(party["keys"], "organization's keys", frozenset(KEY_NAMES))
    return Organization(
        organization=_matching(party["organization"], _SLUG, "organization"),
        name=_name(party["name"]),
        votes=votes,
        aggregates=party["aggregates"],
        keys=MemberKeys(**{name: PublicKey.from_hex(keys[name]) for name in KEY_NAMES}),
        tls_authority=_matching(party["tls_authority"], _PEM, "tls_authority"),
        **{name: _matching(party[name], _ADDRESS, name) for name in _ADDRESSES if name in party},
        cosign_mldsa=MlDsaKey.from_hex(party[MLDSA]) if MLDSA in party else None,
    )


def _check_quorums(genesis: Genesis) -> None:
    n, q, k = len(genesis.members), genesis.q, genesis.k
    if not n < 2 * q <= 2 * n:
        raise InvalidInput(
            "genesis q does not make a quorum",
            found=f"q = {q} of {n} members",
            expected=f"{crash_quorum(n)} to {n}, so that any two quorums share a member",
            remedy=f"Use {crash_quorum(n)} (crash) or {byzantine_quorum(n)} (byzantine).",
        )
    _expect(q <= k <= n, "genesis k", k, f"{q} to {n}")


def _check_distinct(genesis: Genesis) -> None:
    everyone = genesis.everyone()
    _expect_distinct([party.organization for party in everyone], "an organization")
    _expect_distinct(
        [getattr(party.keys, name).hex for party in everyone for name in KEY_NAMES], "a key"
    )
    _expect_distinct([party.cosign_mldsa.hex for party in everyone if party.cosign_mldsa], "a key")


def _expect_distinct(names: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidInput(f"genesis lists {what} twice", found=name[:80], expected="each once")
        seen.add(name)


def _object(
    value: object, what: str, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput(f"{what} is not a JSON object", found=type(value).__name__)
    if unknown := value.keys() - required - optional:
        raise InvalidInput(f"{what} has unknown fields", found=sorted(unknown))
    if missing := required - value.keys():
        raise InvalidInput(f"{what} lacks fields", expected=sorted(missing))
    return value


def _expect(holds: bool, what: str, found: object, expected: object) -> None:
    if not holds:
        raise InvalidInput(f"{what} is wrong", found=str(found)[:80], expected=expected)


def check_names(organization: str, name: str) -> None:
    """Raises InvalidInput unless a genesis could list these; to know it before keys are made."""
    _matching(organization, _SLUG, "organization")
    _name(name)


def _matching(value: object, pattern: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        expected = _IN_WORDS.get(pattern.pattern, pattern.pattern)
        raise InvalidInput(f"{what} is wrong", found=repr(value)[:80], expected=expected)
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 100 or not value.isprintable():
        raise InvalidInput("name is wrong", found=repr(value)[:80], expected="1 to 100 characters")
    return value


def _integer(value: object, what: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidInput(
            f"{what} is wrong", found=repr(value)[:80], expected=f"an integer from {low} to {high}"
        )
    return value


def _continues(value: object) -> Mapping[str, Any] | None:
    """The form of a checkpoint; what it says is checked by whoever holds the older ledger."""
    if value is None:
        return None
    fields = frozenset(("net", "size", "root", "header", "certificate", "signatures"))
    named = _object(value, "genesis' checkpoint", fields)
    _integer(named["size"], "checkpoint's size", 0, canonical.MAX_INTEGER)
    for name in ("net", "root", "header", "certificate"):
        _matching(named[name], _HEX, f"checkpoint's {name}")
    if not isinstance(named["signatures"], dict) or not named["signatures"]:
        raise InvalidInput("checkpoint's signatures are wrong", expected="one for each signer")
    for organization, signature in named["signatures"].items():
        _matching(organization, _SLUG, "signer")
        _matching(signature, _HEX, "checkpoint's signature")
    return named


def _limits(value: object) -> dict[str, int]:
    if not isinstance(value, dict) or len(value) > 100:
        raise InvalidInput("limits are not a JSON object", found=type(value).__name__)
    return {
        _matching(name, _LIMIT, "limit"): _integer(limit, f"limit {name}", 0, canonical.MAX_INTEGER)
        for name, limit in value.items()
    }
