"""What an environment is built from: requirements, a lock, or a folder with a Dockerfile.

    recipe = recipes.of("requirements.txt")     # each line with --hash: a lock; else a plain list
    recipe = recipes.of("environment/")         # holds a Dockerfile
    recipe = recipes.of(["numpy", "torch"])

Invariants
- Equal files give an equal specification and so an equal digest: the identity that approvals bind.
- What a node could not build the same way for everybody is refused here, with words: other indexes,
  addresses, files that name other files, hashes for some lines only.
- The requirements of a specification are the words that openers are compared by. Of a lock these
  are the bare names: which version of each, its hashes say.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tilth.errors import InvalidInput
from tilth_ledger import archive, limits
from tilth_ledger.canonical import sha256_hex

DOCKERFILE: Final = "Dockerfile"
LOCK_BYTES: Final = 4 << 20
_HASH: Final = re.compile(r"\s--hash[= ]\s*[a-z0-9]+:[0-9a-f]+")
_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PINNED: Final = re.compile(r"[^=<>!~;]+===?[^=*,;]+(?:;.*)?")

Source = str | Path | Sequence[str] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """An environment's specification, and the files that it names by digest."""

    spec: dict[str, Any]
    files: Mapping[str, bytes]  # by digest


def of(
    source: Source, *, python: str = ">=3.11", base: str = "", requirements: Sequence[str] = ()
) -> Recipe:
    """The recipe of a folder with a Dockerfile, a requirements file, a list of requirements, or a
    whole specification. `requirements` says more than the source does of what it holds.

    Raises InvalidInput."""
    if isinstance(source, Mapping):
        return Recipe(dict(source), {})
    spec: dict[str, Any] = {"python": python} | ({"base": base} if base else {})
    if isinstance(source, (str, Path)):
        found, stated, files = _of_path(Path(source))
        spec |= stated
    else:
        found, files = [*source], {}
    words = sorted({*found, *requirements})
    if len(words) > limits.REQUIREMENTS:
        raise _wrong("too many requirements", str(len(words)), f"at most {limits.REQUIREMENTS}")
    return Recipe(spec | {"requirements": words}, files)


Found = tuple[list[str], dict[str, str], dict[str, bytes]]


def _of_path(path: Path) -> Found:
    """(requirements, what goes into the specification, files by digest)."""
    if path.is_dir():
        return _of_folder(path)
    if not path.is_file():
        raise _wrong(
            "an environment is made from what is not there",
            str(path),
            "a requirements file, or a folder with a Dockerfile",
        )
    content = path.read_bytes()
    found, locked = _read(path, content)
    if not locked:
        return found, {}, {}
    digest = sha256_hex(content)
    return found, {"lock": digest}, {digest: content}


def _of_folder(folder: Path) -> Found:
    from tilth.algorithm.archive import files_of

    if not (folder / DOCKERFILE).is_file():
        raise _wrong("the folder holds no Dockerfile", str(folder), f"{folder / DOCKERFILE}")
    packed = archive.write(files_of(folder))
    archive.read(packed)  # its bounds: what a node would refuse is refused here
    stated = folder / "requirements.txt"
    found = _read(stated, stated.read_bytes())[0] if stated.is_file() else []
    digest = sha256_hex(packed)
    return found, {"dockerfile": digest}, {digest: packed}


def _read(path: Path, content: bytes) -> tuple[list[str], bool]:
    """The requirements of a file, and whether it is a lock: then their bare names."""
    if len(content) > LOCK_BYTES:
        raise _wrong("a requirements file is too large", str(path), f"at most {LOCK_BYTES} bytes")
    try:
        lines = list(_lines(content.decode()))
    except UnicodeDecodeError:
        raise _wrong("a requirements file is not UTF-8", str(path), "text") from None
    words = [_HASH.sub("", f" {line}").strip() for line in lines]
    hashed = [bool(_HASH.search(line)) for line in lines]
    for line in words:
        _check(path, line)
    if not any(hashed):
        return words, False
    for line, has in zip(words, hashed, strict=True):
        if not has or not _PINNED.fullmatch(line):
            raise _wrong(
                f"{path} is a lock in part",
                line,
                "every line as NAME==VERSION with its --hash",
            )
    return sorted({_name(line).lower().replace("_", "-") for line in words}), True


def _lines(text: str) -> Iterator[str]:
    """Lines with content, continued ones joined, remarks left out."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        bare = re.sub(r"(^|\s)#.*$", "", line).strip()
        if bare:
            yield re.sub(r"\s+", " ", bare)


def _check(path: Path, line: str) -> None:
    if line.startswith("-") or "://" in line or " --" in line or not _NAME.match(line):
        raise _wrong(
            f"{path} has a line that a node cannot follow",
            line[:80],
            "requirements such as numpy>=2; no options, addresses or other files",
        )


def _name(line: str) -> str:
    match = _NAME.match(line)
    return match[0] if match else line


def _wrong(message: str, found: str, expected: str) -> InvalidInput:
    return InvalidInput(
        message,
        found=found,
        expected=expected,
        remedy="A lock comes from: uv pip compile --generate-hashes requirements.in "
        "-o requirements.txt --no-annotate --no-emit-index-url",
    )
