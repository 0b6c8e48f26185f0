"""Volumes that many steps see read-only: sample sets, code, the runner. Filled and verified once.

    name = await volumes.tree(folder, image)

Invariants
- A volume counts only when it is *sealed*: what the engine holds was read back and has the digest
  of what was sent, and then the never-started container that filled it got its sealed name. That
  container also keeps the volume from being pruned.
- The name of a volume depends on the folder's place, inode and times: a folder that was made anew
  is another volume. Folders that are shown to steps are never changed once built.
- A crash leaves an unsealed volume, or one without its container: the next fill, or `sweep`,
  removes it.
"""

import asyncio
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tilth_ledger.tree import TreeEntry
from tilth_node.runtimes import parcels
from tilth_node.runtimes.engine import ABSENT, CONFLICT, Engine, EngineFault

if TYPE_CHECKING:
    from docker import APIClient

NODE, KIND, SOURCE = "org.tilth.node", "org.tilth.kind", "org.tilth.source"
SEALED, FILLING = "-sealed", "-filling"
_AT: Final = "/volumes/tree"
# What runs a step: the packages and, of the node's, only what pid 1 of a container needs.
_RUNNER: Final[Mapping[str, tuple[str, ...]]] = {
    "tilth": ("__init__.py", "algorithm/*.py"),
    "tilth_ledger": ("*.py",),
    "tilth_metrics": ("*.py",),
    "tilth_node": (
        "__init__.py",
        *(f"runtimes/{name}.py" for name in ("__init__", "boundedlog", "contained", "kernel")),
        *(f"runtimes/{name}.py" for name in ("outputs", "seccomp")),
    ),
}


class Volumes:
    """The sealed volumes of one node (`node` names it on the engine)."""

    def __init__(self, engine: Engine, node: str) -> None:
        self._engine = engine
        self._node = node
        self._sealed: set[str] = set()
        self._filling: set[str] = set()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def tree(self, folder: Path, image: str) -> str:
        """The volume with the files of a folder of this node."""
        facts = folder.stat()
        place = f"{folder}:{facts.st_ino}:{facts.st_mtime_ns}"
        key = hashlib.sha256(place.encode()).hexdigest()[:24]
        return await self._ensure(f"tree-{key}", folder, image, lambda: parcels.tree(folder))

    async def runner(self, image: str) -> str:
        """The volume with the code that runs steps, as this node has it."""
        files = await asyncio.to_thread(runner_files)
        key = runner_digest(files)[:24]
        return await self._ensure(f"runner-{key}", Path(), image, lambda: dict(files))

    def forget(self) -> None:
        """The engine may have changed: ask it again what is sealed."""
        self._sealed.clear()

    async def _ensure(self, key: str, source: Path, image: str, files: Any) -> str:
        name = f"{self._node}-{key}"
        async with self._locks[name]:
            if name not in self._sealed:
                labels = {NODE: self._node, KIND: "sealed", SOURCE: str(source)}
                self._filling.add(name)
                try:
                    await self._engine.run(partial(_seal, name, labels, image, files))
                    self._sealed.add(name)
                finally:
                    self._filling.discard(name)
        return name

    async def sweep(self) -> None:
        """Remove volumes that were never sealed, and those whose folder is gone."""

        def in_use(name: str) -> bool:
            # In this order: a fill that ends meanwhile is sealed before it is no longer filling.
            return name in self._filling or name in self._sealed

        await self._engine.run(partial(_sweep, self._node, in_use))


def runner_files() -> dict[str, bytes]:
    """The runner's files; its packages are found without being imported."""
    files: dict[str, bytes] = {}
    for package, patterns in _RUNNER.items():
        spec = find_spec(package)
        root = Path(os.path.dirname(str(spec.origin if spec else "")))
        for path in (found for pattern in patterns for found in root.glob(pattern)):
            files[f"{package}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files


def runner_digest(files: Mapping[str, bytes]) -> str:
    """The digest of the runner's files."""
    digest = hashlib.sha256()
    for path, content in sorted(files.items()):
        digest.update(path.encode() + b"\0" + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _seal(name: str, labels: Mapping[str, str], image: str, files: Any, api: "APIClient") -> None:
    if _exists(api, f"{name}{SEALED}"):
        return
    filling = f"{name}{FILLING}"
    remove(api, filling, name)
    api.create_volume(name, labels=dict(labels))  # Podman knows no labels of a mount
    mount = _mount(name, labels)
    api.create_container(
        image,
        ["true"],
        name=filling,
        labels=dict(labels),
        host_config=api.create_host_config(network_mode="none", mounts=[mount]),
    )
    sent: list[TreeEntry] = []
    api.put_archive(filling, _AT, parcels.outgoing(files(), seen=sent))
    stream, _ = api.get_archive(filling, _AT)
    expected, found = parcels.digest_sent(sent), parcels.digest_of(stream)
    if found != expected:
        raise EngineFault(
            "a volume does not hold what was sent to it", found=found, expected=expected
        )
    # A crash before this leaves a volume that is filled again.
    api.rename(filling, f"{name}{SEALED}")


def _mount(name: str, labels: Mapping[str, str]) -> Any:
    from docker.types import Mount

    return Mount(_AT, name, type="volume", no_copy=True, labels=dict(labels))


def _sweep(node: str, in_use: Callable[[str], bool], api: "APIClient") -> None:
    wanted = {"label": [f"{NODE}={node}", f"{KIND}=sealed"]}
    kept = set()
    volumes = api.volumes(filters=wanted).get("Volumes") or ()
    for container in api.containers(all=True, filters=wanted):
        name = container["Names"][0].lstrip("/")
        source = container["Labels"].get(SOURCE, ".")
        volume = name.removesuffix(SEALED).removesuffix(FILLING)
        kept.add(volume)
        unsealed = name.endswith(FILLING) and not in_use(volume)
        if unsealed or not os.path.exists(source):
            remove(api, container["Id"], volume)
    # A crash between the two, or somebody who prunes containers, leaves a volume alone.
    for name in (each["Name"] for each in volumes):
        if name not in kept and not in_use(name):
            remove(api, "", name)


def _exists(api: "APIClient", container: str) -> bool:
    from docker.errors import NotFound

    try:
        api.inspect_container(container)
    except NotFound:
        return False
    return True


def check_sealed(api: "APIClient", node: str, names: set[str]) -> None:
    """Raise EngineFault when a shared volume is gone: an engine makes an empty one in its place."""
    wanted = {"label": [f"{NODE}={node}", f"{KIND}=sealed"]}
    there = {each["Name"] for each in api.volumes(filters=wanted).get("Volumes") or ()}
    if gone := names - there:
        raise EngineFault(
            "a shared volume is gone from the engine",
            found=f"an empty volume {', '.join(sorted(gone))}",
            remedy="it is filled again; remove volumes of Tilth only while its node is stopped",
        )


def remove(api: "APIClient", container: str, volume: str) -> None:
    """End and remove a container and a volume, whichever of them is named and there."""
    from docker.errors import APIError

    works = [partial(api.remove_container, container, force=True)] if container else []
    for work in (*works, partial(api.remove_volume, volume)):
        try:
            work()
        except APIError as error:
            # A conflict: another call is removing it already.
            if error.status_code not in (ABSENT, CONFLICT):
                raise
