"""`tilth node image ...`: which images run for environments here, said by the node's operator.

- Nothing is changed on the ledger: what is approved counts on this node alone.
- Works beside a running node: it reads the ledger's file, writes `engine/approved.json`, and talks
  to the engine that node.toml names.
- To bring a file in is to approve what is in it, so its id is shown; `--image` refuses any other.

Left to others: files and engines (`tilth_node.runtimes.images`). Nothing heavy is imported before a
command runs.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilth_node.runtimes.engine import Engine

Arguments = argparse.Namespace
WORDS = "which images run for environments here"


def register(verbs: Any) -> None:
    """Add `image` to the verbs of `tilth node`."""
    image = verbs.add_parser("image", help=WORDS, description=WORDS)
    actions = image.add_subparsers(metavar="ACTION", required=True)

    def action(name: str, run: Callable[[Arguments], int], words: str, *more: str) -> Any:
        parser = actions.add_parser(name, help=words, description=words)
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument("folder", type=Path, help="of the node")
        for each in more:
            parser.add_argument(each, **_ARGUMENTS[each])
        parser.set_defaults(run=run)
        return parser

    action("list", _list, "environments, their images here, and images that others offer")
    action("build", _build, "build an environment's image before a task needs it", "environment")
    action("approve", _approve, "let one image alone run for an environment", *_TWO)
    action("forget", _forget, "take the approval back", "environment")
    action("export", _export, "write an environment's image into a file", "environment", "file")
    bring = action("import", _import, "bring an image from a file to the engine", "file")
    bring.add_argument("--image", help="refuse any image but the one with this id")


_TWO = ("environment", "image")
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "environment": {"help": "name, key or digest"},
    "image": {"help": "its id: sha256: and 64 hexadecimal digits"},
    "file": {"type": Path, "help": "of the image"},
}


def _list(arguments: Arguments) -> int:
    from tilth_node import config
    from tilth_node.runtimes import approved, images

    config.load(arguments.folder)  # a folder of no node is said, and not shown as an empty one
    place = arguments.folder / "engine"
    words, built = approved.load(place / approved.FILE), images.recorded(place / images.RECORD)
    found = []
    for key, row in _rows(arguments.folder, "environment/"):
        digest = row["digest"]
        offers = {
            each["owner"]: f"sha256:{each['image']}"
            for _, each in _rows(arguments.folder, "image/")
            if each["digest"] == digest and each["status"] == "active"
        }
        word = words.get(digest)
        facts = {"name": row["name"], "key": key, "digest": digest, "offered": offers}
        facts |= {"approved": f"sha256:{word}" if word else "", "here": built.get(digest, "")}
        found.append(facts)
    lines = [line for facts in found for line in _lines(facts)]
    lines = lines or ["no environment is registered on the ledger that this node holds"]
    return _say(arguments, {"environments": found}, *lines)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['name']}  {facts['key']}"
    yield f"  digest {facts['digest']}"
    for what in ("approved", "here"):
        if facts[what]:
            yield f"  {what:8} {facts[what]}"
    for organization, image in facts["offered"].items():
        yield f"  offered  {image} by {organization}"


def _build(arguments: Arguments) -> int:
    from tilth_node import config
    from tilth_node.runtimes import building
    from tilth_node.storage.vault import Shelf
    from tilth_node.worker.environments import environment_of
    from tilth_node.worker.isolation import build_settings

    name, digest = _environment(arguments)
    rows = _rows(arguments.folder, "environment/")
    row = next(row for _, row in rows if row["digest"] == digest)
    environment = environment_of(row, Shelf(arguments.folder / "vault"))
    settings = build_settings(config.load(arguments.folder))
    engine = _engine(arguments)
    try:
        image = _image_here(arguments, digest, engine)
        image = image or engine.now(lambda api: building.build(environment, settings, api))
    finally:
        engine.close()
    return _say(arguments, {"environment": digest, "image": image}, f"{name}: {image}")


def _image_here(arguments: Arguments, digest: str, engine: "Engine") -> str:
    """The image that runs for an environment here: approved, noted, or under its name."""
    from tilth_node.runtimes import approved, building, images

    place = arguments.folder / "engine"
    if word := approved.load(place / approved.FILE).get(digest):
        return f"sha256:{word}"
    if noted := images.recorded(place / images.RECORD).get(digest):
        return noted
    found = engine.now(lambda api: building.inspect(api, building.tag_of(digest)))
    return str(found["Id"]) if found else ""


def _approve(arguments: Arguments) -> int:
    from tilth_node.runtimes import approved

    name, digest = _environment(arguments)
    image = _image(arguments.image)
    approved.approve(arguments.folder / "engine" / approved.FILE, digest, image)
    facts = {"environment": digest, "image": f"sha256:{image}"}
    return _say(arguments, facts, f"{name} runs in sha256:{image} here, or not at all.")


def _forget(arguments: Arguments) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_node.runtimes import approved

    name, digest = _environment(arguments)
    if not approved.forget(arguments.folder / "engine" / approved.FILE, digest):
        raise InvalidInput(
            "no image is approved for this environment",
            found=name,
            remedy=f"look at them with: tilth node image list {arguments.folder}",
        )
    return _say(arguments, {"environment": digest}, f"{name}: no image is approved any more.")


def _export(arguments: Arguments) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_node.runtimes import images

    name, digest = _environment(arguments)
    if arguments.file.exists():
        raise InvalidInput(
            f"{arguments.file} exists already", remedy="choose another name; it is never replaced"
        )
    engine = _engine(arguments)
    try:
        image = _image_here(arguments, digest, engine)
        if not image:
            raise InvalidInput(
                "this node has no image of the environment",
                found=name,
                expected="one that was built or imported",
                remedy=f"tilth node image build {arguments.folder} {name}",
            )
        facts = engine.now(lambda api: images.save(image, arguments.file, api))
    finally:
        engine.close()
    size = arguments.file.stat().st_size
    return _say(
        arguments,
        {"environment": digest, "image": facts.id, "file": str(arguments.file), "size": size},
        f"{arguments.file}: the image of {name}, {size >> 20} MiB",
        f"image {facts.id}",
        "Carry it by hand: tilth node image import FOLDER " + f"{arguments.file}",
        f"Or offer it to the others: tilth environment offer {name} {arguments.file}",
    )


def _import(arguments: Arguments) -> int:
    from tilth_ledger.errors import InvalidInput
    from tilth_node.runtimes import approved, images

    wanted = _image(arguments.image) if arguments.image else ""
    if not arguments.file.is_file():
        raise InvalidInput(
            "there is no such file",
            found=str(arguments.file),
            remedy="a file that tilth node image export wrote at another site",
        )
    engine = _engine(arguments)
    try:
        facts = engine.now(lambda api: images.load(arguments.file, wanted, "", api))
    finally:
        engine.close()
    known = {row["digest"]: row["name"] for _, row in _rows(arguments.folder, "environment/")}
    if not facts.environment:
        raise InvalidInput(
            "an image that names no environment is on the engine, and approved for none",
            found=facts.id,
            remedy=f"tilth node image approve {arguments.folder} ENVIRONMENT {facts.id}",
        )
    place = arguments.folder / "engine" / approved.FILE
    approved.approve(place, facts.environment, facts.image)
    name = known.get(facts.environment, "an environment that the ledger here does not know yet")
    return _say(
        arguments,
        {"environment": facts.environment, "image": facts.id},
        f"{name} runs in {facts.id} here, or not at all.",
        f"digest {facts.environment}",
    )


def _engine(arguments: Arguments) -> "Engine":
    from tilth_node import config
    from tilth_node.runtimes.engine import Engine

    return Engine(config.load(arguments.folder).engine_address)


def _rows(folder: Path, prefix: str) -> list[tuple[str, Any]]:
    """(key, row) of the assets of a kind, as far as this node's ledger knows."""
    from tilth_node.folder import Folder
    from tilth_node.storage.ledger_store import peek_rows

    database = Folder(folder).database
    found = peek_rows(database, prefix) if database.exists() else []
    return [(key.removeprefix(prefix), row) for key, row in found]


def _environment(arguments: Arguments) -> tuple[str, str]:
    """(name, digest) of the environment that was named."""
    from tilth_ledger.errors import InvalidInput

    said = arguments.environment
    rows = _rows(arguments.folder, "environment/")
    found = {
        row["digest"]: row["name"] for key, row in rows if said in (key, row["name"], row["digest"])
    }
    if len(found) != 1:
        known = ", ".join(sorted({row["name"] for _, row in rows})) or "none"
        raise InvalidInput(
            f"no environment is {said!r}" if not found else f"{said!r} is not clear",
            found=", ".join(found) or known,
            expected="the name, key or digest of one environment on this node's ledger",
            remedy=f"look at them with: tilth node image list {arguments.folder}",
        )
    ((digest, name),) = found.items()
    return name, digest


def _image(text: str) -> str:
    """The digits of an image's id."""
    import re

    from tilth_ledger.errors import InvalidInput

    match = re.fullmatch(r"(?:sha256:)?([0-9a-f]{64})", text)
    if match is None:
        raise InvalidInput(
            "this is no image's id",
            found=text,
            expected="sha256: and 64 hexadecimal digits",
            remedy="tags move; docker image inspect -f {{.Id}} NAME says the id",
        )
    return match[1]


def _say(arguments: Arguments, facts: dict[str, Any], *lines: str) -> int:
    sys.stdout.write((json.dumps(facts) if arguments.json else "\n".join(lines)) + "\n")
    return 0
