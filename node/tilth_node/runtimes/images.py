"""Environments as images: which image runs, and how it gets onto this node's engine.

Invariants
- What runs is an image id, never a name. What the operator approved (`approved`) runs, and nothing
  in its place. Else what was first built or taken for an environment is written down
  (`images.json`), and another image under the same name is refused.
- An image that another organization offers is taken when the operator approved its id, or named
  that organization (`images_from`) and no image was had before. Every byte of it is checked
  against its id before the engine sees it.
- An environment that cannot be had is the asker's trouble (`EnvironmentMissing`); what this machine
  lacks (an engine, room, an approved image that is not here) is its own (`NodeFault`).

Left to others: building (`building`), the file that travels (`imagefile`).
"""

import asyncio
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tilth_ledger.canonical import dumps
from tilth_ledger.errors import InvalidInput
from tilth_node.folder import write_file
from tilth_node.runtimes import (
    Environment,
    EnvironmentMissing,
    NodeFault,
    Shipped,
    approved,
    imagefile,
)
from tilth_node.runtimes.boundedlog import BoundedLog
from tilth_node.runtimes.building import BuildSettings, build, follow, full, inspect, tag_of
from tilth_node.runtimes.engine import Engine, EngineFault
from tilth_node.runtimes.imagefile import ImageFacts
from tilth_node.runtimes.room import check_room

if TYPE_CHECKING:
    from docker import APIClient

OWN: Final = Environment("own", ("h5py", "numpy"))  # of steps that name no environment
RECORD: Final = "images.json"
_LOG_BYTES: Final = 1 << 12

# An image's file while it is needed: fetched and kept by whoever made the runtime.
Fetch = Callable[[Shipped], AbstractAsyncContextManager[Path]]


class Images:
    """The images of environments on one engine; `folder` holds what remembers them."""

    def __init__(
        self, engine: Engine, settings: BuildSettings, folder: Path, fetch: Fetch | None = None
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._record, self._approved = folder / RECORD, folder / approved.FILE
        self._fetch = fetch
        self._known: dict[str, str] = {}
        # One for each environment: a build that takes its time holds up no other.
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, environment: Environment) -> str:
        """The id of the environment's image. Raises EnvironmentMissing or NodeFault."""
        environment = environment if environment.digest else OWN
        async with self._locks[environment.digest]:
            word = self._word(environment.digest)
            known = self._known.get(environment.digest)
            if known is None or (word and known != f"sha256:{word}"):
                known = await self._have(environment, word)
                self._known[environment.digest] = known
        return known

    def forget(self) -> None:
        """The engine may have changed: look again."""
        self._known.clear()

    def _word(self, environment: str) -> str:
        """The image that the operator approved, or nothing. A file that cannot be read is this
        machine's trouble: nobody's task fails by it, and nothing runs."""
        try:
            return approved.load(self._approved).get(environment, "")
        except InvalidInput as error:
            raise NodeFault(
                error.message, found=error.found, expected=error.expected, remedy=error.remedy
            ) from error

    async def _have(self, environment: Environment, word: str) -> str:
        """Find, take or build it, and write down which one it is."""
        agreed = f"sha256:{word}" if word else recorded(self._record).get(environment.digest, "")
        image = await self._engine.run(partial(_find, agreed, environment.digest))
        if image is None or (agreed and image != agreed):
            offered = choose(environment, agreed, self._settings.images_from)
            if offered and self._fetch:
                image = await self._take(environment, offered, self._fetch)
            elif image is not None:
                raise _changed(environment, image, agreed, self._record, by_operator=bool(word))
            elif word:
                raise _not_here(environment, agreed)
            else:
                image = await self._engine.run(partial(build, environment, self._settings))
        await self._engine.run(partial(_check_volumes, image))
        if not word:
            write_file(self._record, dumps(recorded(self._record) | {environment.digest: image}))
        return image

    async def _take(self, environment: Environment, offered: Shipped, fetch: Fetch) -> str:
        async with fetch(offered) as path:
            try:
                take = partial(load, path, offered.image, environment.digest)
                return (await self._engine.run(take)).id
            except InvalidInput as error:
                raise EnvironmentMissing(
                    f"the image that {offered.organization} offers is not what it states: {error}",
                    found=f"file {offered.file}",
                    expected=offered.image,
                    remedy=f"{offered.organization} withdraws the statement and makes another",
                ) from error


def choose(environment: Environment, agreed: str, images_from: tuple[str, ...]) -> Shipped | None:
    """The offered image to take: the agreed one from anybody, as it is checked; without one, that
    of the first organization that the operator named."""
    if agreed:
        return next((each for each in environment.images if f"sha256:{each.image}" == agreed), None)
    named = [each for each in environment.images if each.organization in images_from]
    return min(named, key=lambda each: images_from.index(each.organization), default=None)


def recorded(record: Path) -> dict[str, str]:
    """Environment digest -> id of the image that was built or taken for it."""
    try:
        found: dict[str, str] = json.loads(record.read_bytes())
    except FileNotFoundError:
        return {}
    return found


def load(path: Path, image: str, environment: str, api: "APIClient") -> ImageFacts:
    """Check an image file and hand it to the engine; `image` "" takes whichever it is.

    Raises InvalidInput when it is another one, EngineFault when the engine cannot take it."""
    with path.open("rb") as file:
        facts = imagefile.read(file)
        _check_wanted(facts, image, environment)
        file.seek(0)
        log = BoundedLog(_LOG_BYTES)
        events = api.load_image(file)  # type: ignore[no-untyped-call]
        if problem := follow(events, log):
            raise full(problem) if "no space left" in problem else _not_taken(facts, problem)
    found = inspect(api, facts.id)
    layers = [f"sha256:{layer}" for layer in facts.layers]
    if found is None or found["Id"] != facts.id or found["RootFS"].get("Layers") != layers:
        raise _not_taken(facts, str(found and found["Id"]))
    name, _, tag = tag_of(facts.environment or environment).partition(":")
    api.tag(facts.id, name, tag, force=True)
    return facts


def save(image: str, target: Path, api: "APIClient") -> ImageFacts:
    """Write an engine's image as an image file, whole or not at all. Raises NodeFault."""
    found = inspect(api, image)
    if found is None:
        raise EngineFault("an image is not on this engine", found="no such image", expected=image)
    # Twice: as the engine saves it, and in the one form.
    size = 2 * int(found["Size"])
    check_room(target.parent, size, "an image's file", "then export it again")
    draft = target.with_name(f"{target.name}.new")
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".saved-") as saved:
        for piece in api.get_image(found["Id"]):
            saved.write(piece)
        saved.flush()
        try:
            with draft.open("wb") as file:
                facts = imagefile.write(Path(saved.name), file)
            # A crash here leaves a `.new` file that the next export of the same name replaces.
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    return facts


def _find(agreed: str, environment: str, api: "APIClient") -> str | None:
    """The agreed image if it is here, else what carries the environment's name, or None."""
    if agreed and inspect(api, agreed):
        return agreed
    found = inspect(api, tag_of(environment))
    return None if found is None else str(found["Id"])


def _check_volumes(image: str, api: "APIClient") -> None:
    """Refuse an image that declares volumes: an engine makes a new one for each container, with a
    copy of what the image holds there, which no limit of a step bounds."""
    declared = ((inspect(api, image) or {}).get("Config") or {}).get("Volumes")
    if declared:
        raise EnvironmentMissing(
            "the image of an environment declares volumes",
            found=", ".join(declared)[:200],
            expected="an image without any",
            remedy="build it without VOLUME, on a base without VOLUME",
        )


def _check_wanted(facts: ImageFacts, image: str, environment: str) -> None:
    if image and facts.image != image:
        raise InvalidInput(
            "this is another image than was agreed on", found=facts.image, expected=image
        )
    if facts.environment and environment and facts.environment != environment:
        raise InvalidInput(
            "this is the image of another environment",
            found=facts.environment,
            expected=environment,
        )


def _not_taken(facts: ImageFacts, problem: str) -> EngineFault:
    return EngineFault(
        "the engine did not take an image as it is",
        found=problem,
        expected=facts.id,
        remedy="an engine that names images by their configuration, such as Docker with its "
        "classic image store",
    )


def _changed(
    environment: Environment, found: str, agreed: str, record: Path, *, by_operator: bool
) -> EnvironmentMissing:
    tag = tag_of(environment.digest)
    if by_operator:
        return EnvironmentMissing(
            "the image of an environment is not the one that this node's operator approved",
            found=found,
            expected=agreed,
            remedy="tilth node image import brings the approved one; tilth node image approve "
            "takes another, after a look at it",
        )
    return EnvironmentMissing(
        "the image of an environment is not the one that was built for it",
        found=found,
        expected=agreed,
        remedy=f"docker image rm {tag}, so that it is built again; or remove its line "
        f"from {record} if the change is wanted",
    )


def _not_here(environment: Environment, agreed: str) -> EngineFault:
    return EngineFault(
        "the image that was approved for an environment is not on this engine",
        found="no such image, and no organization offers it",
        expected=agreed,
        remedy="tilth node image import FOLDER FILE; or tilth node image forget FOLDER "
        f"{environment.digest}, so that it is built again",
    )
