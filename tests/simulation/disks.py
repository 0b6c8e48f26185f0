"""What survives a crash of a simulated machine, and what can become of it.

Left to others: when it happens, and to whom (machines).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from number_ledger import MemoryArchive

from tilth_ledger.cosigning import Schedule

if TYPE_CHECKING:
    from links import Node

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Image:
    """A copy of a disk, as a backup keeps it."""

    journal: bytes
    sequence: int
    archive: MemoryArchive
    newest: int


@dataclass
class Cosigner:
    """Which head a node signed last: durable before the cosignature leaves (F5)."""

    newest: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(0))

    def restart(self) -> None:
        self.schedule = Schedule(self.newest)


class RottenArchive(MemoryArchive):
    """Final blocks of which some bytes are not what was written: what is handed on is damaged."""

    def __init__(self, sound: MemoryArchive, random: Random) -> None:
        super().__init__()
        self.__dict__.update(sound.__dict__)
        self._random = random

    def block(self, height: int) -> bytes | None:
        data = super().block(height)
        return data if data is None or height % 3 else flipped(data, self._random)


def copied(archive: MemoryArchive, height: int | None = None) -> MemoryArchive:
    """The final blocks up to a height."""
    copy = MemoryArchive()
    copy.blocks = archive.blocks[:height]
    kept = len(copy.blocks)
    copy.certificates = {h: data for h, data in archive.certificates.items() if h <= kept}
    copy.voids = {h: void for h, void in archive.voids.items() if h <= kept}
    copy.state = archive.state
    return copy


def image(node: Node) -> Image:
    return Image(node.journal, node.sequence, copied(node.archive), node.cosigner.newest)


def flipped(data: bytes, random: Random) -> bytes:
    """One bit is another."""
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _flip(node: Node, random: Random) -> None:
    node.journal = flipped(node.journal, random)


def _stale(node: Node, random: Random) -> None:
    """A sector holds what was written to another one, or nothing."""
    sectors = len(node.journal) // SECTOR
    if sectors:
        at, other = (SECTOR * random.randrange(sectors) for _ in range(2))
        there = random.choice((bytes(SECTOR), node.journal[other : other + SECTOR]))
        node.journal = node.journal[:at] + there + node.journal[at + SECTOR :]


def _cut(node: Node, random: Random) -> None:
    """The end of the journal was said to be on the disk and is not."""
    node.journal = node.journal[: random.randint(0, len(node.journal))]


def _restore(node: Node, random: Random) -> None:
    """An old copy of the whole disk is put back."""
    if node.image is not None:
        kept = node.image
        node.journal, node.sequence = kept.journal, kept.sequence
        node.archive, node.cosigner.newest = copied(kept.archive), kept.newest


def wipe(node: Node, random: Random) -> None:
    """Nothing is left."""
    node.journal, node.sequence, node.archive = b"", 0, MemoryArchive()
    node.cosigner.newest = 0


LOSSES: tuple[Callable[[Node, Random], None], ...] = (_flip, _stale, _cut, _restore, _restore, wipe)
