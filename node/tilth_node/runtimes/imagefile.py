"""An image as one file, with exactly one byte form for each image: what travels between nodes.

    facts = write(saved, file)     # from what an engine saved
    facts = read(file)             # checks every byte; only then an engine may load it

Form: a plain tar that engines load: `manifest.json` with one image and no names, then the
configuration and the layers, uncompressed, as `blobs/sha256/<digest>` in the order of the image;
owner, group and times 0; two empty blocks at the end, nothing beyond.

Invariants
- An image's id is the digest of its configuration, which names its layers by digest: what `read`
  accepted is that image and no other, whoever sent it.
- A file names no image, so loading one can't put another image under a name that is in use.
- Streamed: a layer is never held in memory. Nothing is compressed, so nothing expands.

Left to others: who is believed about which image (`images`), engines.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tilth_ledger.canonical import dumps, sha256_hex
from tilth_ledger.errors import InvalidInput

LABEL: Final = "org.tilth.environment"
MANIFEST: Final = "manifest.json"
CONFIG_BYTES: Final = 1 << 20
LAYER_BYTES: Final = (8 << 30) - 1  # what a plain tar can state
MAX_LAYERS: Final = 128
_BLOBS: Final = "blobs/sha256/"
_BLOCK: Final = 512
_CHUNK: Final = 1 << 20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_REMEDY: Final = "write it again with: tilth node image export FOLDER ENVIRONMENT FILE"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image file is."""

    image: str  # id: the digest of the configuration
    environment: str  # digest of the environment that it states in its label; may be empty
    layers: tuple[str, ...]  # digests, lowest first

    @property
    def id(self) -> str:
        """The id as engines write it."""
        return f"sha256:{self.image}"


def read(file: IO[bytes]) -> ImageFacts:
    """The image in a file. Raises InvalidInput unless it is exactly what `write` makes."""
    stated = _small(file, MANIFEST)
    config = _small(file, _BLOBS + _config_of(stated))
    facts = _facts(config)
    if stated != _manifest(facts):
        raise _wrong("lists other layers than its image has", repr(stated[:80]))
    for layer in dict.fromkeys(facts.layers):
        found = hashlib.sha256()
        for piece in _content(file, _BLOBS + layer, LAYER_BYTES):
            found.update(piece)
        if found.hexdigest() != layer:
            raise _wrong("holds a layer with other bytes", found.hexdigest(), layer)
    if file.read(2 * _BLOCK + 1) != bytes(2 * _BLOCK):
        raise _wrong("does not end after its last layer", "more bytes, or fewer")
    return facts


def write(saved: Path, target: IO[bytes]) -> ImageFacts:
    """Bring what an engine saved (its own tar of one image) into the one form.

    Raises InvalidInput when it is none."""
    with tarfile.open(saved, "r:") as archive:
        (stated,) = json.loads(_member(archive, MANIFEST).read(CONFIG_BYTES))
        config = _member(archive, stated["Config"]).read(CONFIG_BYTES + 1)
        facts = _facts(config)
        _put(target, MANIFEST, _manifest(facts))
        _put(target, _BLOBS + facts.image, config)
        names = dict(zip(facts.layers, stated["Layers"], strict=True))
        for layer, name in names.items():
            _put_layer(target, layer, _member(archive, name))
    target.write(bytes(2 * _BLOCK))
    return facts


def _facts(config: bytes) -> ImageFacts:
    """What a configuration says. Raises InvalidInput."""
    if len(config) > CONFIG_BYTES:
        raise _wrong("has too large a configuration", f"more than {CONFIG_BYTES} bytes")
    try:
        stated = json.loads(config)
        layers = [str(each) for each in stated["rootfs"]["diff_ids"]]
        labels = (stated.get("config") or {}).get("Labels") or {}
        environment = str(labels.get(LABEL, ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _wrong("holds no configuration of an image", repr(error)[:80]) from None
    digests = tuple(each.removeprefix("sha256:") for each in layers)
    if not 0 < len(digests) <= MAX_LAYERS or not all(map(_DIGEST.fullmatch, digests)):
        raise _wrong("has layers that are none", f"{len(digests)} layers", f"up to {MAX_LAYERS}")
    return ImageFacts(sha256_hex(config), environment, digests)


def _manifest(facts: ImageFacts) -> bytes:
    layers = [_BLOBS + layer for layer in facts.layers]
    return dumps([{"Config": _BLOBS + facts.image, "Layers": layers, "RepoTags": []}])


def _config_of(manifest: bytes) -> str:
    """The digest of the configuration that a manifest names."""
    try:
        (stated,) = json.loads(manifest)
        digest = str(stated["Config"]).removeprefix(_BLOBS)
    except (ValueError, KeyError, TypeError, RecursionError):
        digest = ""
    if not _DIGEST.fullmatch(digest):
        raise _wrong("names no image", repr(manifest[:80]), "one image")
    return digest


def _small(file: IO[bytes], name: str) -> bytes:
    return b"".join(_content(file, name, CONFIG_BYTES))


def _content(file: IO[bytes], name: str, most: int) -> Iterator[bytes]:
    """The bytes of the next member, which must be `name` in the one form."""
    head = file.read(_BLOCK)
    field = head[124:135]
    size = int(field, 8) if re.fullmatch(rb"[0-7]{11}", field) else -1
    if not 0 <= size <= most or head != _head(name, size):
        other = re.fullmatch(rb"([\w./-]{1,99})\0+", head[:100])
        shown = other[1].decode() if other else "bytes that name no member" if head else "its end"
        raise _wrong("is not in the one form that an image has", shown, name)
    left = size
    while left:
        piece = file.read(min(_CHUNK, left))
        if not piece:
            raise _wrong("ends early", f"{left} bytes missing of {name}")
        left -= len(piece)
        yield piece
    padding = -size % _BLOCK
    if file.read(padding) != bytes(padding):
        raise _wrong("is not in the one form that an image has", "bytes between members")


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    """A file of an engine's tar, through the links by which older engines name a layer twice."""
    try:
        content = archive.extractfile(name)
    except KeyError:
        content = None
    if content is None:
        raise _wrong("was saved without a part of the image", name)
    return content


def _put(target: IO[bytes], name: str, content: bytes) -> None:
    target.write(_head(name, len(content)) + content + bytes(-len(content) % _BLOCK))


def _put_layer(target: IO[bytes], layer: str, content: IO[bytes]) -> None:
    size = content.seek(0, 2)
    content.seek(0)
    if size > LAYER_BYTES:
        raise _wrong("has too large a layer", f"{size} bytes", f"at most {LAYER_BYTES}")
    target.write(_head(_BLOBS + layer, size))
    found = hashlib.sha256()
    while piece := content.read(_CHUNK):
        found.update(piece)
        target.write(piece)
    if found.hexdigest() != layer:
        raise _wrong(
            "was saved with compressed or changed layers, by an engine that names images otherwise",
            found.hexdigest(),
            layer,
        )
    target.write(bytes(-size % _BLOCK))


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.USTAR_FORMAT)


def _wrong(what: str, found: Any, expected: str = "") -> InvalidInput:
    return InvalidInput(f"an image file {what}", found=found, expected=expected, remedy=_REMEDY)
