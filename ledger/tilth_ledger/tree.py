"""The tree digest: the one name of a folder's content (a sample, a local folder).

Invariants
- Equal content gives equal digests on every machine: entries are sorted by the UTF-8 bytes of
  their path; owner, times and all mode bits but "the owner may execute it" are left out.
- Different content gives different digests: paths hold no control characters, so the line
  form below cannot be read in two ways.
- Only regular files count. Links, devices and sockets are refused by who walks the folder;
  empty folders have no name here.

Form, hashed with SHA-256: the line `tilth-tree-1`, then one line per file,
`<mode> <size> <sha256 hex> <path>`, mode `x` (executable) or `-`, each line ended by one
newline.

Leaves to others: walking and hashing real files (`tilth_node.storage.walk`).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tilth_ledger.errors import InvalidInput

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
MAX_PATH_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One file of a folder: `path` relative with `/`, `size` in bytes, `digest` SHA-256 hex."""

    path: str
    executable: bool
    size: int
    digest: str


def check_path(path: str) -> None:
    """Raise InvalidInput unless `path` is relative, plain and inside its folder."""
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        raise InvalidInput(
            "a file name is not valid UTF-8", found=repr(path), remedy="rename the file"
        ) from None
    parts = path.split("/")
    if _CONTROL.search(path) or any(part in ("", ".", "..") for part in parts):
        raise InvalidInput(
            "a path leaves its folder or holds control characters",
            found=repr(path),
            expected="a relative path of plain names",
            remedy="rename the file",
        )
    if length > MAX_PATH_BYTES:
        raise InvalidInput(
            "a path is too long",
            found=f"{length} bytes",
            expected=f"at most {MAX_PATH_BYTES} bytes",
            remedy="shorten the names",
        )


def tree_digest(entries: Iterable[TreeEntry]) -> str:
    """SHA-256 hex of a folder given its files in any order; raises InvalidInput on two equal
    paths or a path that is not plain."""
    lines: dict[bytes, bytes] = {}
    for entry in entries:
        check_path(entry.path)
        path = entry.path.encode()
        if path in lines:
            raise InvalidInput("a folder names one file twice", found=entry.path)
        mode = "x" if entry.executable else "-"
        lines[path] = f"{mode} {entry.size} {entry.digest} {entry.path}\n".encode()
    digest = hashlib.sha256(b"tilth-tree-1\n")
    for path in sorted(lines):
        digest.update(lines[path])
    return digest.hexdigest()
