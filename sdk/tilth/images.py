"""Images of environments that organizations offer: `tilth environment offer` and what it states.

    tilth node image export FOLDER torch torch.tar        # the node's operator
    net.environments.offer(environment, "torch.tar")      # a person of the organization

The file goes to the own organization's node, and the ledger learns its digest and the image's id.
Other nodes take it when their operators approved that image or named this organization; then they
check every byte. What is read of the file here is its first member, which names the image.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tilth.errors import InvalidInput

MANIFEST_BYTES: Final = 1 << 20
_CONFIG: Final = re.compile(r"blobs/sha256/([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class OfferedImage:
    """An image of an environment, as an organization states it."""

    key: str
    organization: str
    image: str  # id: sha256: and 64 hexadecimal digits
    file: str  # SHA-256
    size: int  # of the file, in bytes

    @classmethod
    def from_row(cls, key: str, row: Mapping[str, Any]) -> "OfferedImage":
        file = row["file"]
        owner = key.partition("/")[0]
        return cls(key, owner, f"sha256:{row['image']}", file["digest"], file["size"])


def look(path: Path) -> tuple[str, str, int]:
    """(image, digest of the file, its size) of an image file. Raises InvalidInput."""
    if not path.is_file():
        raise _wrong("there is no such file", str(path))
    try:
        with tarfile.open(path, "r:") as archive:
            first = archive.next()
            content = archive.extractfile(first) if first else None
            if first is None or content is None or first.name != "manifest.json":
                raise _wrong("this is no image file", str(path))
            (stated,) = json.loads(content.read(MANIFEST_BYTES))
        match = _CONFIG.fullmatch(stated["Config"])
    except (tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise _wrong("this is no image file", f"{path}: {error}") from None
    if match is None:
        raise _wrong("this is no image file", str(stated["Config"])[:80])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return match[1], digest, path.stat().st_size


def _wrong(message: str, found: str) -> InvalidInput:
    return InvalidInput(
        message,
        found=found,
        expected="a file that the node's operator exported",
        remedy="tilth node image export FOLDER ENVIRONMENT FILE",
    )
