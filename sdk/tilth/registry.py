"""The nouns that are registered by name: algorithms, environments, identities, organizations.

Each noun lists what the ledger has, finds one by name or key, and adds to it. Withdrawn assets are
not listed (rule A4 keeps them as tombstones).
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tilth import images, recipes
from tilth.assets import Algo, Dataset, Environment, Objective
from tilth.blobs import fetch, new_folder, write_code
from tilth.errors import InvalidInput, TilthError
from tilth.images import OfferedImage
from tilth_ledger import canonical

if TYPE_CHECKING:
    from tilth.client import Network

A = TypeVar("A", Algo, Dataset, Environment, Objective)
# What algorithms and openers need when they say nothing else.
PYTHON = {"python": ">=3.11", "requirements": ["h5py", "numpy"]}


class Assets(Generic[A]):
    """What lists and finds are alike for all nouns."""

    noun = "asset"
    command = "tilth"

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(self, *, name: str | None = None, owner: str | None = None) -> tuple[A, ...]:
        """What the ledger has, oldest key first; several may carry the same name."""
        return tuple(
            asset
            for asset in self._all()
            if name in (None, asset.name) and owner in (None, asset.key.partition("/")[0])
        )

    def one(self, *, name: str, owner: str | None = None) -> A:
        """The only one of this name. Raises InvalidInput when there is none, or a choice."""
        found = self.list(name=name, owner=owner)
        if len(found) == 1:
            return found[0]
        known = ", ".join(sorted({each.name for each in self._all()})) or "none"
        raise InvalidInput(
            f"no {self.noun} is named {name!r}" if not found else f"{name!r} is not clear",
            found=", ".join(each.key for each in found) or known,
            expected=f"one {self.noun} of that name",
            remedy=f"Look at them with: {self.command} list",
        )

    def find(self, name_or_key: str) -> A:
        """By key, else by name."""
        for each in self._all():
            if each.key == name_or_key:
                return each
        return self.one(name=name_or_key)

    def _all(self) -> Iterable[A]:
        raise InvalidInput(
            f"{self.noun}s cannot be listed", remedy="List them with the noun's own command."
        )

    def _rows(self, prefix: str) -> Iterable[tuple[str, dict[str, Any]]]:
        for key, row in self._net.rows.scan(prefix):
            if row.get("status", "active") != "withdrawn":
                yield key.removeprefix(prefix), row


class Environments(Assets[Environment]):
    """What code needs to run."""

    noun = "environment"
    command = "tilth environment"

    def add(
        self,
        name: str,
        source: recipes.Source,
        *,
        python: str = ">=3.11",
        base: str = "",
        requirements: Sequence[str] = (),
    ) -> Environment:
        """Registers an environment, or finds the one that is built from the same.

        source  a requirements file (with hashes: a lock), a folder with a Dockerfile, a list of
                requirements, or a whole specification
        base    the image to build on; default: what each node's operator offers. A Dockerfile
                gets it as the argument BASE. NAME@sha256:DIGEST binds it.
        requirements  what it also holds, in the words of the openers of its data
        """
        recipe = recipes.of(source, python=python, base=base, requirements=requirements)
        digest = hashlib.sha256(canonical.dumps(recipe.spec)).hexdigest()
        for known in self._all():
            if known.digest == digest:
                return known
        for file, content in recipe.files.items():
            self._net.transport.put_blob(file, content)
        key = self._net.new_key()
        operation = {"op": "environment.add", "key": key, "name": name, "digest": digest}
        self._net.record({**operation, "spec": recipe.spec})
        return Environment.from_row(key, {**operation, "spec": recipe.spec})

    def code(self, environment: Environment, folder: str | Path) -> Path:
        """Writes its Dockerfile with its files, or its lock, into a new folder, to be read."""
        if environment.dockerfile:
            return write_code(self._net, environment.dockerfile, folder)
        place = new_folder(folder)
        stated = "".join(f"{each}\n" for each in environment.requirements).encode()
        place.mkdir(parents=True, exist_ok=True)
        content = fetch(self._net, environment.lock) if environment.lock else stated
        (place / "requirements.txt").write_bytes(content)
        return place

    def offer(
        self,
        environment: Environment,
        path: str | Path,
        *,
        use: str | Sequence[str] = "public",
    ) -> OfferedImage:
        """States the image that one's node built of an environment, and offers its file (of `tilth
        node image export`) to the nodes of all, or of the organizations in `use`."""
        image, digest, size = images.look(Path(path))
        for known in self.offers(environment):
            if (known.organization, known.file) == (self._net.organization, digest):
                return known
        self._net.transport.put_file(digest, Path(path))
        key = self._net.new_key()
        row = {"image": image, "file": {"digest": digest, "size": size}}
        operation = {"op": "image.add", "key": key, "environment": environment.key, **row}
        self._net.record({**operation, "grants": {"use": use}})
        return OfferedImage.from_row(key, row)

    def offers(self, environment: Environment) -> tuple[OfferedImage, ...]:
        """The images of an environment that organizations offer now."""
        prefix = f"image-of/{environment.digest}/"
        keys = [key.removeprefix(prefix) for key, _ in self._net.rows.scan(prefix)]
        rows = [(key, self._net.rows.get(f"image/{key}")) for key in keys]
        return tuple(
            OfferedImage.from_row(key, row)
            for key, row in rows
            if row and row["status"] == "active"
        )

    def withdraw_offer(self, key: str) -> None:
        """An image of one's own is offered no more; who has it keeps it."""
        self._net.record({"op": "image.withdraw", "key": key})

    def default(self) -> Environment:
        """Python with numpy and h5py."""
        return self.add("python", PYTHON)

    def _all(self) -> Iterable[Environment]:
        for key, row in self._rows("environment/"):
            yield Environment.from_row(key, row)


class Algos(Assets[Algo]):
    """Untrained code."""

    noun = "algo"
    command = "tilth algo"

    def add(
        self,
        code: "type[Any] | str | Path",
        *,
        name: str | None = None,
        environment: Environment | None = None,
        grants: Mapping[str, Any] | None = None,
    ) -> Algo:
        """Registers an Algorithm class, or the archive in a folder. The same code under the same
        name is registered once, so a script may run again.

        environment  what it needs to run, and all that the openers of its data need, in the same
                     words; default: Python with numpy and h5py
        """
        from tilth.algorithm import archive

        packed = archive.of(code)
        manifest = packed.manifest
        if not manifest["capabilities"]:
            manifest = {**manifest, **_declared(Path(str(code)))}
        name = name or packed.name or Path(str(code)).name
        for known in self.list(name=name, owner=self._net.organization):
            same = environment is None or known.environment == environment.key
            if known.archive == packed.digest and same:
                return known
        self._net.transport.put_blob(packed.digest, packed.data)
        environment = environment or self._net.environments.default()
        key = self._net.new_key()
        operation: dict[str, Any] = {
            "op": "algo.add",
            "key": key,
            "name": name,
            "archive": packed.digest,
            "manifest": manifest,
            "environment": environment.key,
        }
        self._net.record(operation | ({"grants": dict(grants)} if grants else {}))
        return Algo.from_row(key, operation)

    def withdraw(self, algo: Algo) -> None:
        """No new use of it; what it made stays, and is marked (rule A4). For its owner."""
        self._net.record({"op": "algo.withdraw", "key": algo.key})

    def code(self, algo: Algo, folder: str | Path) -> Path:
        """Writes its code into a new folder, to be read. Raises Refused (P6) without `read`."""
        return write_code(self._net, algo.archive, folder)

    def _all(self) -> Iterable[Algo]:
        for key, row in self._rows("algo/"):
            yield Algo.from_row(key, row)


def _declared(folder: Path) -> dict[str, Any]:
    """What the Algorithm in a folder can do, where its tilth.toml does not say. Loads the code,
    which is one's own, as defining the class in a script does."""
    from tilth.algorithm import loading, manifest

    try:
        found = loading.algorithm(folder, manifest.read(folder))
    except TilthError as error:
        raise InvalidInput(
            "nothing says what this algorithm can do",
            found=f"{folder}: {error}",
            expected="a folder with algorithm.py that holds an Algorithm, or with a tilth.toml",
            remedy='Say it in its tilth.toml, for example: capabilities = ["init", "predict", '
            '"train"]',
        ) from None
    schemas = [each.schema() for each in found.parameters]
    return {"capabilities": list(found.capabilities()), "parameters": schemas}


class Identities:
    """The keys that act for organizations."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(self) -> tuple[dict[str, Any], ...]:
        """Every identity's row, with its key id."""
        return tuple(
            {"key": key.removeprefix("identity/"), **row}
            for key, row in self._net.rows.scan("identity/")
        )

    def add(self, public: str, *, roles: Sequence[str]) -> str:
        """Lets a key act in the given roles; returns its id. For admins."""
        from tilth_ledger.keys import PublicKey

        key = PublicKey.from_hex(public)
        self._net.record({"op": "identity.add", "public": public, "roles": sorted(roles)})
        return key.key_id

    def revoke(self, identity: str) -> None:
        """No more new entries from this key (by its id). For admins."""
        if self._net.rows.get(f"identity/{identity}") is None:
            raise InvalidInput(
                "there is no such identity",
                found=identity,
                expected="a key id, 64 hexadecimal digits",
                remedy="Look at them with: tilth identity list",
            )
        self._net.record({"op": "identity.revoke", "identity": identity})


class Organizations:
    """The parties of the consortium."""

    def __init__(self, net: "Network") -> None:
        self._net = net

    def list(self) -> tuple[dict[str, Any], ...]:
        """Every organization's row, by name."""
        return tuple(row for _, row in self._net.rows.scan("organization/"))

    def update(self, **facts: Any) -> dict[str, Any]:
        """Changes what this organization says of itself: `aggregates`, `name`, `peer_address`,
        `client_address`. For admins. Returns its row."""
        if not facts:
            raise InvalidInput(
                "nothing to change",
                expected="aggregates, name, peer_address or client_address",
                remedy="For example: tilth organization update --aggregates",
            )
        self._net.record({"op": "organization.update", **facts})
        return self._net.rows.get(f"organization/{self._net.organization}") or {}
