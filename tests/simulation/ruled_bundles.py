"""Bundles of certified rows, as nodes export them over every epoch, and the independent verifier.

Left to others: which nodes, and when (ruled_world).
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from checker import Violation
from ruled_boards import Boards
from ruled_ledger import RuledArchive
from ruled_script import generation_of, keys_of

from tilth import verifier
from tilth_ledger import bundle, canonical
from tilth_ledger.blocks import Certificate, Header, vote_bytes
from tilth_ledger.bundle import Finality, Proven, Stood
from tilth_ledger.checkpoints import origin_of
from tilth_ledger.cosigning import CosignKeys, Head, publish, sign
from tilth_ledger.epoch_chain import EpochEnd, epoch_chain
from tilth_ledger.epochs import Signers, epoch_key, signers_of
from tilth_ledger.keys import SigningKey
from tilth_ledger.leaf import EPOCH_END, leaf_type
from tilth_ledger.standing import Standing, standing

CHANGES = 24  # bytes changed of a bundle
HEX = "0123456789abcdef"

Rows = tuple[tuple[int, ...], ...]  # of certified results, one tuple for each model


class Exporter:
    """What one node can prove."""

    def __init__(self, archive: RuledArchive) -> None:
        self.archive, self.genesis = archive, archive.genesis
        self.leaves = archive.leaves()
        self.ends = epoch_chain(
            archive.rows, self.leaves.__getitem__, archive.node, archive.final_with
        )

    def rows(self) -> Rows:
        """The certified results of each model, oldest first."""
        models: dict[str, list[int]] = {}
        for _, row in self.archive.rows.scan("certified/"):
            models.setdefault(row["model"], []).append(int(row["index"]))
        return tuple(sorted(tuple(sorted(results)) for results in models.values()))

    def heads(self) -> list[tuple[Header, Certificate]]:
        """Final blocks whose own certificates are stored, in order; the newest one is among
        them."""
        found = []
        for height, block in enumerate(self.archive.blocks, 1):
            stored = self.archive.certificates.get(height)
            if stored is not None and (final := Certificate.decode(stored)).block == block.hash:
                found.append((block.header, final))
        return found

    def earliest(self, above: int) -> tuple[Header, Certificate]:
        """The first head whose tree holds the leaf at an index."""
        return next(head for head in self.heads() if head[0].size > above)

    def signers(self, epoch: int) -> Signers:
        signers = signers_of(self.archive.rows, epoch, self.genesis)
        assert signers is not None
        return signers

    def note(self, header: Header, signers: Signers, count: int = 0) -> bytes:
        """A head, cosigned by so many (k) of these signers, each with the keys it had."""
        head, origin = Head.of(header), origin_of(self.genesis.name, self.genesis.net)
        signatures = {}
        for place, member in enumerate(signers.members[: count or signers.k]):
            name = member.organization
            keys = self._cosign_keys(name, signers.epoch)
            for signed in sign(head, origin, place, member, keys, header.time_ms // 1000):
                signatures[name, signed.type] = signed.signature
        return publish(head, signatures, signers, origin, signers.members[0].organization)

    def signed_by(self, certificate: Certificate, epoch: int) -> Certificate:
        """The same, by the vote keys of another epoch's members of these places."""
        members = (self.archive.rows.get(epoch_key(epoch)) or {})["members"]
        named = (certificate.kind, certificate.epoch, certificate.view, certificate.block)
        text = vote_bytes(self.genesis.net_bytes, *named)
        at = [members[place % len(members)] for place in certificate.members]
        keys = [self._keys(each["organization"], each["vote"])["vote"] for each in at]
        return replace(certificate, signatures=tuple(key.sign(text) for key in keys))

    @staticmethod
    def _keys(name: str, vote_key: str) -> Mapping[str, SigningKey]:
        return keys_of(name, generation_of(name, vote_key))

    def _cosign_keys(self, name: str, epoch: int) -> CosignKeys:
        row = self.archive.rows.get(epoch_key(epoch))
        assert row is not None
        [listed] = [each["vote"] for each in row["members"] if each["organization"] == name]
        keys = self._keys(name, listed)
        return CosignKeys(keys["log"], keys["cosign"], None)

    def proven(self, header: Header, final: Certificate | None, note: bytes | None) -> Proven:
        ends = [end for end in self.ends if end.header.size < header.size]
        return Proven(header.size, note, None if final is None else Finality(header, final), ends)

    def make(self, proven: Proven, results: Sequence[int]) -> bytes:
        archive = self.archive
        return bundle.make(
            self.genesis,
            proven,
            results,
            self.leaves.__getitem__,
            archive.node,
            archive.rows,
            None,
        )

    def stood(self, results: Sequence[int]) -> Stood | None:
        """How a row stood on the newest recorded board."""

        def board(objective: str, revision: int, size: int) -> Standing:
            return standing(self.archive.rows, objective, revision, size)

        return bundle.stood(self.archive.rows, self.leaves.__getitem__, results, board)

    def row_bundle(self, results: Sequence[int], *, early: bool = False) -> bytes:
        """Of one row, under the newest head, or the first one above it: cosigned by k, and final by
        the votes of q."""
        header, final = self.earliest(results[-1]) if early else self.heads()[-1]
        note = self.note(header, self.signers(header.epoch))
        stood = None if early else self.stood(results)
        return self.make(replace(self.proven(header, final, note), stood=stood), results)


@dataclass(frozen=True, slots=True)
class Forged:
    """A bundle that proves nothing, though much of it is right."""

    what: str
    data: bytes


def check_bundles(archive: RuledArchive, boards: Boards, random: Random, *, attack: bool) -> int:
    """What a node exports passes the independent verifier, which shares no code with it, and says
    of the newest board what stood there; a changed or forged one fails. The number of rows."""
    exporter = Exporter(archive)
    genesis = archive.genesis.bytes
    for results in exporter.rows():
        for early in (False, True):
            data = exporter.row_bundle(results, early=early)
            report = verifier.verify(data, genesis)
            if not report.ok or len(report.facts["results"]) != len(results):
                raise Violation(f"the verifier refuses an exported bundle: {report.refusal}")
            if not early:
                boards.check_told(results, report.facts.get("stood"))
            if not attack:
                continue
            for changed, what in changed_bundles(data, random):
                if verifier.verify(changed, genesis).ok:
                    raise Violation(f"the verifier takes a bundle with another {what}")
    if attack:
        for forged in forged_bundles(exporter, exporter.rows()[0], random):
            if verifier.verify(forged.data, genesis).ok:
                raise Violation(f"the verifier takes {forged.what}")
    return len(exporter.rows())


def forged_bundles(exporter: Exporter, results: Sequence[int], random: Random) -> Iterator[Forged]:
    """Bundles under the newest head with another chain of epochs, or others' signatures."""
    header, final = exporter.heads()[-1]
    signers = exporter.signers(header.epoch)
    note = exporter.note(header, signers)
    right = exporter.proven(header, final, note)
    ends = right.ends

    def bundle_of(what: str, **other: Any) -> Forged:
        return Forged(what, exporter.make(replace(right, **other), results))

    for place, end in enumerate(ends):
        without = [*ends[:place], *ends[place + 1 :]]
        yield bundle_of(f"a chain without the end of epoch {place}", ends=without)
        for epoch in (place + 1, header.epoch):
            other = exporter.signed_by(end.certificate, epoch)
            if other != end.certificate:
                forged = [*ends[:place], replace(end, certificate=other), *ends[place + 1 :]]
                what = f"an end of epoch {place} by the votes of members of epoch {epoch}"
                yield bundle_of(what, ends=forged)
    for place in range(len(ends) - 1):
        swapped = list(ends)
        swapped[place : place + 2] = reversed(swapped[place : place + 2])
        yield bundle_of(
            f"a chain with the ends of epochs {place} and the next swapped", ends=swapped
        )
    if ends:
        again = [*ends, ends[-1]]
        yield bundle_of("a chain with an end twice", ends=again)
        yield bundle_of("an end with another leaf", ends=_relisted(ends, random))
    stood = exporter.stood(results)
    if stood is not None:
        better = replace(stood, row=stood.row.replace(b'"count":', b'"count":1', 1))
        yield bundle_of("a row that was not on the board", stood=better)
    if signers.k > 1:
        few = exporter.note(header, signers, signers.k - 1)
        yield bundle_of("a head that fewer than k cosigned", checkpoint=few, finality=None)
    for epoch in range(header.epoch):
        older = exporter.signers(epoch)
        now = {member.cosign.hex for member in signers.members}
        if sum(member.cosign.hex in now for member in older.members[: older.k]) < signers.k:
            yield bundle_of(
                f"a head that the cosigners of epoch {epoch} signed",
                checkpoint=exporter.note(header, older),
                finality=None,
            )


def _relisted(ends: Sequence[EpochEnd], random: Random) -> list[EpochEnd]:
    """One of the leaves lists a key of which one digit is another."""
    place = random.randrange(len(ends))
    leaf = ends[place].leaf
    assert leaf_type(leaf) == EPOCH_END
    at = leaf.index(b'"vote":"') + len(b'"vote":"') + random.randrange(64)
    other = b"0" if leaf[at : at + 1] != b"0" else b"1"
    changed = replace(ends[place], leaf=leaf[:at] + other + leaf[at + 1 :])
    return [*ends[:place], changed, *ends[place + 1 :]]


def changed_bundles(data: bytes, random: Random) -> Iterator[tuple[bytes, str]]:
    """The bundle with one byte changed, in its signed and hashed parts."""
    parts = ("header", "certificate", "content", "hashes", "checkpoint", "path", "end")
    for _ in range(CHANGES):
        value = json.loads(data)
        what = random.choice(parts if value["epochs"] else parts[:-1])
        match what:
            case "header" | "certificate":
                value[what] = _other(value[what], random, HEX)
            case "content":
                content = bytearray(zlib.decompress(b64decode(value[what])))
                content[random.randrange(len(content))] ^= 1 << random.randrange(8)
                value[what] = b64encode(zlib.compress(content)).decode()
            case "hashes":
                place = random.randrange(len(value[what]))
                step = bytearray(b64decode(value[what][place]))
                step[random.randrange(len(step))] ^= 1 << random.randrange(8)
                value[what][place] = b64encode(step).decode()
            case "checkpoint":
                text, _, lines = value[what].partition("\n\n")
                value[what] = _other(text, random, HEX) + "\n\n" + lines
            case "end":
                end, part = random.choice(value["epochs"]), random.choice(("header", "certificate"))
                end[part] = _other(end[part], random, HEX)
            case _:
                path = random.choice(value["leaves"])["path"]
                place = random.randrange(len(path))
                path[place] = (path[place] + 1) % len(value["hashes"])
        yield canonical.dumps(value), what


def _other(text: str, random: Random, letters: str) -> str:
    place = random.randrange(len(text))
    new = random.choice([letter for letter in letters if letter != text[place]])
    return text[:place] + new + text[place + 1 :]
