"""Archives: a folder as one blob, with exactly one byte form for each content.

Invariants
- `read(write(files))` gives the files back, and `write(read(data)) == data`: an archive's digest
  names its content, whoever packed it.
- Only regular files with plain relative paths exist in an archive. A path that climbs or is
  absolute, a link, a device, a second file of the same name, a file below a file, too many files
  or bytes: each is refused before any content is used. Nothing is compressed, so nothing expands.

Form: POSIX ustar, sorted by the UTF-8 bytes of the path; mode 0644 or 0755; owner, group and times
0; two empty blocks at the end, no padding beyond.

Left to others: real folders (`tilth_node.runtimes.unpack`, `tilth.algorithm.archive`).
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from tilth_ledger.errors import InvalidInput
from tilth_ledger.tree import check_path

BLOCK: Final = 512
_END: Final = bytes(2 * BLOCK)
_REMEDY: Final = "Pack the folder with the SDK (`tilth` does it when an asset is added)."
_KINDS: Final = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"5": "an entry for a folder",
    b"6": "a pipe",
    b"S": "a sparse file",
}


class ArchiveBounds(NamedTuple):
    """What an archive may hold at most."""

    files: int = 2_000
    total_bytes: int = 64 << 20

    @property
    def archive_bytes(self) -> int:
        """No archive within these bounds is longer: a header and padding for each file."""
        return self.total_bytes + self.files * (2 * BLOCK) + len(_END)


class ArchiveFile(NamedTuple):
    """One file: `path` relative with `/`."""

    path: str
    executable: bool
    data: bytes


def write(files: Iterable[ArchiveFile]) -> bytes:
    """The one archive of these files; raises InvalidInput on a bad or repeated path."""
    ordered = sorted(files, key=lambda file: file.path.encode())
    _check_paths([file.path for file in ordered])
    parts: list[bytes] = []
    for file in ordered:
        parts += [_header(file), file.data, bytes(-len(file.data) % BLOCK)]
    return b"".join([*parts, _END])


def read(data: bytes, bounds: ArchiveBounds | None = None) -> list[ArchiveFile]:
    """The files of an archive; raises InvalidInput unless it is exactly what `write` makes."""
    bounds = bounds or ArchiveBounds()
    if len(data) % BLOCK or not data.endswith(_END):
        raise _wrong("these bytes are no archive", repr(data[:8]), "a plain, uncompressed tar")
    files: list[ArchiveFile] = []
    position, total = 0, 0
    while data[position : position + BLOCK] != bytes(BLOCK):
        file, position = _entry(data, position, bounds.total_bytes - total)
        total += len(file.data)
        files.append(file)
        if len(files) > bounds.files:
            raise _wrong("an archive of too many files", f"more than {bounds.files}", "fewer")
    if write(files) != data:
        raise _wrong(
            "an archive that is not in the one form its content has",
            "another order, owner, time, mode or padding",
            "sorted files with modes 0644 or 0755, no owners, no times",
        )
    return files


def _entry(data: bytes, position: int, bytes_left: int) -> tuple[ArchiveFile, int]:
    head = data[position : position + BLOCK]
    kind = head[156:157]
    if kind != b"0":
        what = _KINDS.get(kind, f"an entry of type {kind!r}")
        raise _wrong(f"an archive holds {what}", _text(head[:100]), "regular files only")
    path = _text(head[:100])
    if prefix := head[345:500].rstrip(b"\0"):
        path = f"{_text(prefix)}/{path}"
    check_path(path)
    size = _octal(head[124:136])
    start = position + BLOCK
    if size > bytes_left or start + size > len(data) - len(_END):
        raise _wrong(
            "an archive's file is larger than the archive or its bound",
            f"{path} of {size} bytes",
            f"at most {bytes_left} bytes",
        )
    executable = bool(_octal(head[100:108]) & 0o100)
    file = ArchiveFile(path, executable, data[start : start + size])
    return file, start + size + (-size % BLOCK)


def _header(file: ArchiveFile) -> bytes:
    prefix, name = _split(file.path)
    mode = 0o755 if file.executable else 0o644
    fields = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % mode,
            b"0000000\0" * 2,  # owner and group
            b"%011o\0" % len(file.data),
            b"00000000000\0",  # time
            b" " * 8,  # the checksum counts itself as spaces
            b"0".ljust(101, b"\0"),
            b"ustar\x0000".ljust(72, b"\0"),
            b"0000000\0" * 2,
            prefix.ljust(155, b"\0"),
        )
    ).ljust(BLOCK, b"\0")
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _split(path: str) -> tuple[bytes, bytes]:
    """ustar's two name fields: the longest name that fits, the rest as prefix."""
    raw = path.encode()
    if len(raw) <= 100:
        return b"", raw
    cut = raw.find(b"/", len(raw) - 101)
    if cut < 0 or cut > 155:
        raise _wrong("a path is too long for an archive", path, "at most 255 bytes")
    return raw[:cut], raw[cut + 1 :]


def _check_paths(paths: list[str]) -> None:
    seen: set[str] = set()
    for path in paths:
        check_path(path)
        parts = path.split("/")
        above = ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        if any(name in seen for name in above):
            raise _wrong("an archive names a path twice, or a file as a folder", path, "one file")
        seen.add(path)


def _octal(field: bytes) -> int:
    text = field.rstrip(b"\0 ")
    if not text or any(digit not in b"01234567" for digit in text):
        raise _wrong("an archive's number is not octal", repr(field), "octal digits")
    return int(text, 8)


def _text(field: bytes) -> str:
    try:
        return field.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise _wrong("an archive's path is not UTF-8", repr(field), "UTF-8") from None


def _wrong(message: str, found: str, expected: str) -> InvalidInput:
    return InvalidInput(message, found=found, expected=expected, remedy=_REMEDY)
