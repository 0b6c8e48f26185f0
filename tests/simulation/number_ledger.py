"""A tiny state machine for the simulator, and keys that cost nothing.

A leaf is an unsigned entry whose payload is a text of words: `claim:x` is refused when x is taken,
`needs:y` until y is taken, `bad` always. Every payload takes its own first word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from hashlib import sha256

from tilth_ledger.blocks import Block, Header
from tilth_ledger.epochs import Epoch
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.evidence import Evidence, Name
from tilth_ledger.genesis import Genesis, member_file, parse_member_file
from tilth_ledger.keys import BadSignature, SigningKey
from tilth_ledger.leaf import ENTRY, EVIDENCE, Leaf, leaf_type
from tilth_ledger.merkle import EMPTY_ROOT

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True)
class Numbers:
    """The state: which words are taken."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    digest: bytes = bytes(32)
    time_ms: int = 0
    taken: frozenset[str] = frozenset()
    evidence: frozenset[Name] = frozenset()


@dataclass(frozen=True, slots=True)
class NumbersBuilt:
    leaves: tuple[bytes, ...]
    state: Numbers
    refused: tuple[tuple[str, TilthError], ...]


def write_leaf(text: str) -> bytes:
    return Leaf(ENTRY, text.encode()).encode()


@lru_cache(maxsize=65_536)
def _words(leaf: bytes) -> tuple[str, tuple[str, ...]]:
    decoded = Leaf.decode(leaf)
    return decoded.id, tuple(decoded.payload.decode().split())


class NumberExecutor:
    """Builds and executes; pure. Without a genesis it takes no evidence."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.genesis = genesis
        self.settled = 0

    def genesis_state(self) -> Numbers:
        return Numbers()

    def settle(self, state: Numbers) -> None:
        self.settled = state.size

    def check_evidence(self, state: Numbers, evidence: Evidence) -> None:
        if self.genesis is None:
            raise InvalidInput("no evidence here")
        evidence.first.verify(Epoch.first(self.genesis))
        evidence.second.verify(Epoch.first(self.genesis))

    def holds(self, state: Numbers, evidence: Evidence) -> bool:
        return evidence.name in state.evidence

    def build(self, parent: Numbers, leaves: Sequence[bytes], time_ms: int) -> NumbersBuilt:
        taken: set[str] = set()
        told: set[Name] = set()
        body: list[bytes] = []
        refused: list[tuple[str, TilthError]] = []
        for leaf in leaves:
            try:
                self._take(parent, taken, told, leaf)
            except (Refused, InvalidInput) as error:
                refused.append((Leaf.decode(leaf).id, error))
            else:
                body.append(leaf)
        after = self._after(parent, taken, told, body, time_ms)
        return NumbersBuilt(tuple(body), after, tuple(refused))

    def execute(self, parent: Numbers, leaves: Sequence[bytes], time_ms: int) -> Numbers:
        taken: set[str] = set()
        told: set[Name] = set()
        for leaf in leaves:
            self._take(parent, taken, told, leaf)
        return self._after(parent, taken, told, leaves, time_ms)

    def _take(self, parent: Numbers, taken: set[str], told: set[Name], leaf: bytes) -> None:
        if leaf_type(leaf) != EVIDENCE:
            return self._apply(parent, taken, *_words(leaf))
        if self.genesis is None or taken:
            raise Refused("E1", "evidence comes first")
        evidence = Evidence.parse(leaf, self.genesis.net)
        self.check_evidence(parent, evidence)
        if evidence.name in parent.evidence | told:
            raise Refused("E1", "recorded already")
        told.add(evidence.name)
        return None

    @staticmethod
    def _apply(parent: Numbers, taken: set[str], name: str, words: tuple[str, ...]) -> None:
        held = parent.taken
        if name in held or name in taken:
            raise Refused("A2", "recorded already", found=name)
        for word in words:
            kind, _, what = word.partition(":")
            known = what in held or what in taken
            if kind == "bad" or (kind == "claim" and known) or (kind == "needs" and not known):
                raise Refused("N1", "does not hold", found=word)
        taken.add(name)
        taken.update(w.partition(":")[2] for w in words if w.startswith("claim:"))
        taken.add(words[0])

    @staticmethod
    def _after(
        parent: Numbers, taken: set[str], told: set[Name], leaves: Sequence[bytes], time_ms: int
    ) -> Numbers:
        if not leaves:
            return replace(parent, time_ms=time_ms)
        root, digest = parent.root, parent.digest
        for leaf in leaves:
            root = sha256(root + leaf).digest()
        for word in sorted(taken):
            digest = sha256(digest + word.encode()).digest()
        for name in sorted(told):
            digest = sha256(digest + repr(name).encode()).digest()
        size = parent.size + len(leaves)
        evidence = parent.evidence | told
        return Numbers(size, root, digest, time_ms, parent.taken | taken, evidence)


@dataclass(frozen=True, slots=True)
class CheapKey:
    """Signs and verifies with a keyed hash: good enough where nobody looks at secrets."""

    secret: bytes

    @property
    def public(self) -> CheapKey:
        return self

    def sign(self, message: bytes) -> bytes:
        return sha256(self.secret + message).digest() * 2

    def verify(self, signature: bytes, message: bytes) -> None:
        if signature != self.sign(message):
            raise BadSignature("signature does not verify")


@dataclass(frozen=True)
class Consortium:
    genesis: Genesis
    keys: tuple[SigningKey, ...]  # or CheapKeys

    @cached_property
    def epoch(self) -> Epoch:
        return Epoch.first(self.genesis)


@lru_cache(maxsize=64)
def consortium(
    n: int, q: int | None = None, delta_ms: int = 300, cheap: bool = True, followers: int = 0
) -> Consortium:
    """A genesis of n members, `m0` to `m<n-1>`, then followers; and the vote keys of all."""
    members, keys = [], []
    for index in range(n + followers):
        seed = SigningKey.from_seed(sha256(b"simulated %d" % index).digest())
        purposes = {p: seed.derive(p) for p in ("vote", "cosign", "log", "node", "admin")}
        data = member_file(f"m{index}", f"Member {index}", purposes, PEM)
        members.append(parse_member_file(data))
        keys.append(purposes["vote"])
    genesis = Genesis.write(
        "simulated", members[:n], members[n:], limits={}, q=q, delta_ms=delta_ms
    )
    if cheap:
        keys = [CheapKey(b"secret %d" % index) for index in range(n + followers)]
        genesis = replace(
            genesis,
            members=tuple(
                replace(member, keys=replace(member.keys, vote=key))
                for member, key in zip(genesis.members, keys[:n], strict=True)
            ),
        )
    return Consortium(genesis, tuple(keys))


class MemoryArchive:
    """A node's final blocks, as its store keeps them: what survives a crash."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.certificates: dict[int, bytes] = {}
        self.state: Numbers = Numbers()

    def block(self, height: int) -> bytes | None:
        if height >= 1 << 63:
            raise OverflowError("no database takes this number")
        if not 1 <= height <= len(self.blocks):
            return None
        return self.blocks[height - 1].encode()

    def header(self, height: int) -> Header | None:
        return self.blocks[height - 1].header if 1 <= height <= len(self.blocks) else None

    def certificate(self, height: int) -> bytes | None:
        return self.certificates.get(height)


__all__ = ["CheapKey", "Consortium", "InvalidInput", "MemoryArchive", "NumberExecutor"]
