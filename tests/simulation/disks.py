"""What survives a crash of a simulated machine, and what can become of it.

Left to others: when it happens, and to whom (machines).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from number_ledger import MemoryArchive

from tilth_ledger.cosigning import Schedule

if TYPE_CHECKING:
    from links import Node

SECTOR = 512
ZEROS = bytes(1_500)  # written behind every journal, for the next records to be written over


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

    def __init__(self, sound: MemoryArchive, random: Random, met: Counter[str]) -> None:
        super().__init__()
        self.__dict__.update(sound.__dict__)
        self._random, self._met = random, met

    def block(self, height: int) -> bytes | None:
        data = super().block(height)
        if data is None or height % 3:
            return data
        self._met["disk: damaged block handed on"] += 1
        return flipped(data, self._random)


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


def whole_sectors(at: int, cut: int) -> int:
    """How many of the first `cut` bytes written at a place are there if none of their sectors is
    there by half."""
    return max(0, (at + cut) // SECTOR * SECTOR - at)


def flipped(data: bytes, random: Random) -> bytes:
    """One bit is another."""
    if not data:
        return data
    at = random.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]


def _bit_flip(node: Node, random: Random) -> bool:
    node.journal = flipped(node.journal, random)
    return bool(node.journal)


def _misdirected_write(node: Node, random: Random) -> bool:
    """What was written to one sector stands in another one."""
    sectors = len(node.journal) // SECTOR
    at, other = (SECTOR * random.randrange(max(1, sectors)) for _ in range(2))
    return _overwrite(node, at, node.journal[other : other + SECTOR])


def _stale_sector(node: Node, random: Random) -> bool:
    """A sector holds what stood there before the last write, or nothing if that was the first."""
    at = SECTOR * random.randrange(max(1, len(node.journal) // SECTOR))
    return _overwrite(node, at, node.before[at : at + SECTOR].ljust(SECTOR, b"\0"))


def _overwrite(node: Node, at: int, sector: bytes) -> bool:
    """Whether that changed a byte of what was written."""
    before = node.journal
    node.journal = (before[:at] + sector + before[at + SECTOR :])[: len(before)]
    return node.journal != before


def _lost_end(node: Node, random: Random) -> bool:
    """The end of the journal was said to be on the disk and is not."""
    whole = len(node.journal)
    node.journal = node.journal[: random.randint(0, whole)]
    return len(node.journal) < whole


def _restored_backup(node: Node, random: Random) -> bool:
    """An old copy of the whole disk is put back."""
    if node.image is None:
        return False
    kept = node.image
    node.journal, node.sequence = kept.journal, kept.sequence
    node.archive, node.cosigner.newest = copied(kept.archive), kept.newest
    return True


def wipe(node: Node, random: Random) -> bool:
    """Nothing is left."""
    lost = bool(node.journal or node.archive.blocks)
    node.journal, node.sequence, node.archive = b"", 0, MemoryArchive()
    node.cosigner.newest = 0
    return lost


LOSSES: tuple[Callable[[Node, Random], bool], ...] = (
    _bit_flip,
    _misdirected_write,
    _stale_sector,
    _lost_end,
    _restored_backup,
    _restored_backup,
    wipe,
)
