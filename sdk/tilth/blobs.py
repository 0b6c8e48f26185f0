"""Blobs of the ledger, fetched from the node and checked: logs, reports, and code to be read.

Invariants:
- Bytes that hash to something else than was asked for are never handed on.
- Code is written into a new folder, file by file, by the rules of tilth_ledger.archive: it can name
  no path outside of it. It is not run.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from tilth.errors import InvalidInput
from tilth_ledger import archive
from tilth_ledger.canonical import sha256_hex

if TYPE_CHECKING:
    from tilth.client import Network


def fetch(net: "Network", digest: str) -> bytes:
    """A blob as a whole. Raises Refused (P6) without the right to read it."""
    net.rows.reach()
    content = b"".join(net.transport.get_blob(digest))
    if sha256_hex(content) != digest:
        raise InvalidInput(
            "the node served other bytes than were asked for",
            found=sha256_hex(content),
            expected=digest,
            remedy="Ask again, or ask another node.",
        )
    return content


def new_folder(folder: str | Path) -> Path:
    """A folder that is empty or not there yet. Raises InvalidInput."""
    place = Path(folder)
    if place.exists() and any(place.iterdir()):
        raise InvalidInput(
            "code is written into a folder of its own",
            found=f"files in {place}",
            expected="an empty or a new folder",
            remedy="Choose another one with --out.",
        )
    return place


def write_code(net: "Network", digest: str, folder: str | Path) -> Path:
    """Writes the files of an archive into a new folder; returns it."""
    place = new_folder(folder)
    for file in archive.read(fetch(net, digest)):
        path = place / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
        path.chmod(0o755 if file.executable else 0o644)
    return place
