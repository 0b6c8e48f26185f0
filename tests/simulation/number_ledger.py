"""A tiny state machine for the simulator, and keys that cost nothing.

A leaf is an unsigned entry whose payload is a text of words: `claim:x` is refused when x is taken,
`needs:y` until y is taken, `bad` always. Every payload takes its own first word.
`epoch:add=m3`, `epoch:remove=m1`, `epoch:stop=m1`, `epoch:rotate=m1`, `epoch:q=3`,
`epoch:rules=2` ends the epoch; `;q=3` behind it states the next one's q (else the smallest);
`;q=spare` the least of which one member can be spared that signs anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any

from tilth_ledger.blocks import Block, Certificate, Header, vote_bytes
from tilth_ledger.effects import Effects, Keyring
from tilth_ledger.epochs import Epoch, Membership
from tilth_ledger.errors import InvalidInput, Refused, TilthError
from tilth_ledger.evidence import Evidence, Name
from tilth_ledger.genesis import Genesis, Organization, member_file, parse_member_file
from tilth_ledger.keys import BadSignature, SigningKey
from tilth_ledger.leaf import ENTRY, EVIDENCE, Leaf, leaf_type
from tilth_ledger.merkle import EMPTY_ROOT
from tilth_ledger.restart import Restored

MOST_ROTATIONS = 1_000
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
    memberships: tuple[Membership, ...] = ()  # of the epochs after genesis'
    entries: Mapping[str, int] = field(default_factory=dict, compare=False)

    @property
    def epoch(self) -> int:
        return len(self.memberships)


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
    try:
        return decoded.id, tuple(decoded.payload.decode().split())
    except UnicodeDecodeError:
        raise InvalidInput("leaf is no text", found=decoded.payload[:40].hex()) from None


class NumberExecutor:
    """Builds and executes; pure. Without a genesis it takes no evidence and ends no epoch."""

    def __init__(self, genesis: Genesis | None = None, rules: Sequence[int] = (1,)) -> None:
        self.genesis = genesis
        self.settled = 0
        self._rules = rules

    def membership(self, state: Numbers) -> Membership:
        return self._memberships(state)[-1]

    def _memberships(self, state: Numbers) -> tuple[Membership, ...]:
        assert self.genesis is not None
        return (Membership.of_genesis(self.genesis), *state.memberships)

    def voters(self, state: Numbers, epoch: int) -> Membership | None:
        memberships = self._memberships(state)
        return memberships[epoch] if epoch < len(memberships) else None

    def knows(self, rules_version: int) -> bool:
        return rules_version in self._rules

    def genesis_state(self) -> Numbers:
        return Numbers()

    def settle(self, state: Numbers) -> None:
        self.settled = state.size

    def check_evidence(self, state: Numbers, evidence: Evidence) -> None:
        if self.genesis is None:
            raise InvalidInput("no evidence here")
        memberships, (epoch, view, member, _) = self._memberships(state), evidence.name
        if epoch >= len(memberships) or member >= len(memberships[epoch].members):
            raise InvalidInput("evidence is against no member")
        key, net = memberships[epoch].voters[member], self.genesis.net_bytes
        for vote in (evidence.first, evidence.second):
            key.verify(vote.signature, vote_bytes(net, vote.kind, epoch, view, vote.block))

    def holds(self, state: Numbers, evidence: Evidence) -> bool:
        return evidence.name in state.evidence

    def build(self, parent: Numbers, leaves: Sequence[bytes], time_ms: int) -> NumbersBuilt:
        taken: set[str] = set()
        told: set[Name] = set()
        body: list[bytes] = []
        refused: list[tuple[str, TilthError]] = []
        memberships = parent.memberships
        for leaf in leaves:
            try:
                changed_to = self._next(parent, leaf)
                self._take(parent, taken, told, leaf)
                memberships = changed_to
            except (Refused, InvalidInput) as error:
                refused.append((Leaf.decode(leaf).id, error))
            else:
                body.append(leaf)
                if memberships is not parent.memberships:
                    break
        after = self._after(parent, taken, told, body, time_ms, memberships)
        return NumbersBuilt(tuple(body), after, tuple(refused))

    def execute(self, parent: Numbers, leaves: Sequence[bytes], time_ms: int) -> Numbers:
        taken: set[str] = set()
        told: set[Name] = set()
        memberships = parent.memberships
        for leaf in leaves:
            if memberships is not parent.memberships:
                raise Refused("M2", "a leaf follows the end of an epoch")
            self._take(parent, taken, told, leaf)
            memberships = self._next(parent, leaf)
        return self._after(parent, taken, told, leaves, time_ms, memberships)

    @staticmethod
    def root_after(parent: Numbers, leaves: Sequence[bytes]) -> bytes:
        return _root(parent.root, leaves)

    def _next(self, parent: Numbers, leaf: bytes) -> tuple[Membership, ...]:
        """The memberships after a leaf; the parent's, the very object, if it changes nothing."""
        words = () if leaf_type(leaf) == EVIDENCE else _words(leaf)[1]
        change = next((word for word in words if word.startswith("epoch:")), "")
        if not change:
            return parent.memberships
        return (*parent.memberships, changed(self.membership(parent), change))

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
        parent: Numbers,
        taken: set[str],
        told: set[Name],
        leaves: Sequence[bytes],
        time_ms: int,
        memberships: tuple[Membership, ...],
    ) -> Numbers:
        if not leaves:
            return replace(parent, time_ms=time_ms, entries={})
        root, digest = _root(parent.root, leaves), parent.digest
        for word in sorted(taken):
            digest = sha256(digest + word.encode()).digest()
        for name in sorted(told):
            digest = sha256(digest + repr(name).encode()).digest()
        size = parent.size + len(leaves)
        evidence = parent.evidence | told
        held = parent.taken | taken
        places = enumerate(leaves, parent.size)
        entries = {_words(leaf)[0]: place for place, leaf in places if leaf_type(leaf) == ENTRY}
        return Numbers(size, root, digest, time_ms, held, evidence, memberships, entries)


def _root(root: bytes, leaves: Sequence[bytes]) -> bytes:
    for leaf in leaves:
        root = sha256(root + leaf).digest()
    return root


@lru_cache(maxsize=4096)
def changed(now: Membership, change: str) -> Membership:
    """The membership after `epoch:<what>=<of>[;q=<q>]`."""
    what, _, rest = change.removeprefix("epoch:").partition("=")
    of, _, q = rest.partition(";q=")
    named = {each.organization: each for each in now.everyone()}
    members, version = list(now.members), now.rules_version
    if what == "add":
        party = named.get(of) or organization(int(of[1:]), 0, cheap=_is_cheap(now))
        members = [*members, replace(party, votes=True)] if party not in now.members else []
    elif what in ("remove", "stop") and named.get(of) in members:
        members.remove(named[of])
    elif what == "rotate" and of in named:
        old = named[of]
        new = organization(int(of[1:]), _generation(old) + 1, cheap=_is_cheap(now))
        members = [new if each is old else each for each in members]
    elif what == "q":
        q = of
    elif what == "rules":
        version = int(of)
    else:
        members = []
    n, least = len(members), len(members) // 2 + 1
    if q == "spare":
        least = spare_quorum(n)
    chosen = int(q) if q.isdigit() else least
    others = {**named, **{each.organization: each for each in members}}
    voting = {each.organization for each in members}
    gone = {of} if what == "remove" else set()
    rest_of = tuple(each for name, each in others.items() if name not in voting | gone)
    if not n or not least <= chosen <= n:
        raise Refused("M3", "no such change", found=change)
    return Membership(now.number + 1, tuple(members), rest_of, chosen, n, version)


def spare_quorum(n: int) -> int:
    """The least q of which one member may be away, and one may sign anything (n - q and 2q - n - 1
    are 1 at least); of fewer than four members there is none: more than there are."""
    return n // 2 + 1 + n % 2 if n >= 4 else n + 1


@lru_cache(maxsize=1024)
def organization(index: int, generation: int, *, cheap: bool) -> Organization:
    """Member `m<index>` with its keys after so many rotations."""
    _, party = _keys(index, generation)
    if not cheap:
        return party
    return replace(party, keys=replace(party.keys, vote=vote_key(index, generation, cheap=True)))


def vote_key(index: int, generation: int, *, cheap: bool) -> SigningKey | CheapKey:
    if not cheap:
        return _keys(index, generation)[0]["vote"]
    suffix = b" %d" % generation if generation else b""
    return CheapKey(b"secret %d" % index + suffix)


@lru_cache(maxsize=1024)
def _keys(index: int, generation: int) -> tuple[dict[str, SigningKey], Organization]:
    label = b"simulated %d" % index + (b" %d" % generation if generation else b"")
    seed = SigningKey.from_seed(sha256(label).digest())
    purposes = {p: seed.derive(p) for p in ("vote", "cosign", "log", "node", "admin")}
    name = f"Member {index}" + "'" * generation
    return purposes, parse_member_file(member_file(f"m{index}", name, purposes, PEM))


def _generation(party: Organization) -> int:
    return party.name.count("'")


def _is_cheap(now: Membership) -> bool:
    return isinstance(now.members[0].keys.vote, CheapKey)


def holding(*keys: SigningKey) -> Keyring:
    """The keyring of a node that holds exactly these keys."""
    return lambda public: next((key for key in keys if key.public == public), None)


class Keys:
    """A node's keyring: all keys that a member ever had."""

    def __init__(self, index: int, *, cheap: bool) -> None:
        self._index, self._cheap = index, cheap

    def __call__(self, public: Any) -> Any:
        held = (vote_key(self._index, g, cheap=self._cheap) for g in range(MOST_ROTATIONS))
        return next((key for key in held if key.public == public), None)


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
        purposes, party = _keys(index, 0)
        members.append(party)
        keys.append(purposes["vote"])
    genesis = Genesis.write(
        "simulated", members[:n], members[n:], limits={}, q=q, delta_ms=delta_ms
    )
    if cheap:
        keys = [CheapKey(b"secret %d" % index) for index in range(n + followers)]

        def cheaply(index: int, party: Organization) -> Organization:
            return replace(party, keys=replace(party.keys, vote=keys[index]))

        genesis = replace(
            genesis,
            members=tuple(cheaply(i, party) for i, party in enumerate(genesis.members)),
            organizations=tuple(
                cheaply(i, party) for i, party in enumerate(genesis.organizations, n)
            ),
        )
    return Consortium(genesis, tuple(keys))


class MemoryArchive:
    """A node's final blocks, as its store keeps them: what survives a crash."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.certificates: dict[int, bytes] = {}
        self.voids: dict[int, tuple[Block, ...]] = {}
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

    def void(self, height: int) -> list[bytes]:
        return [block.encode() for block in self.voids.get(height, ())]

    def apply(self, effects: Effects) -> None:
        """Keep what a step made final."""
        for final in effects.finalized:
            self.blocks.append(final.block)
            self.state = final.state
        if effects.finalized:
            last = effects.finalized[-1]
            self.certificates[len(self.blocks)] = last.certificate.encode()
            self.voids[len(self.blocks)] = last.void

    def restored(self, journal: Sequence[bytes], *, doubtful: bool = False) -> Restored:
        """What a node finds here, and in its journal, when it starts."""
        height = len(self.blocks)
        stored = self.certificate(height)
        ends = (b.header for b in reversed(self.blocks) if b.header.epoch < self.state.epoch)
        return Restored(
            self.state,
            self.blocks[-1] if height else None,
            Certificate.decode(stored) if stored else None,
            journal,
            next(ends, None),
            doubtful,
        )


__all__ = ["CheapKey", "Consortium", "InvalidInput", "MemoryArchive", "NumberExecutor"]
