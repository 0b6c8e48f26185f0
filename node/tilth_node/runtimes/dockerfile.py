"""What a Dockerfile makes an engine fetch by itself, whatever network the build has. Pure.

An engine pulls images that it lacks (FROM, COPY --from) and fetches addresses (ADD) with its own
network, not the build's. So a node names the images beforehand, and looks whether they are here.

Invariants
- Every image that a build could ask for is named, or the Dockerfile is refused: what this reads
  differently than an engine would (escapes, variables it does not know) is never let through.
- Without network nothing is added by ADD, which may be an address; COPY does the rest.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tilth_node.runtimes import EnvironmentMissing

BASE: Final = "BASE"  # the build argument that stands for the environment's base image
IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,254}")
MAX_BYTES: Final = 1 << 18
_CONTINUED: Final = re.compile(r"\\[ \t]*$")
_DOUBTFUL: Final = re.compile(r"\\\\[ \t]*$")
_ESCAPE: Final = re.compile(r"#\s*escape\s*=", re.IGNORECASE)
_BLANK: Final = re.compile(r"[\t\v\f\r ]+")
_FLAG: Final = re.compile(r"--[a-z]+(?:=[A-Za-z0-9._/:@,-]*)?")
_VARIABLE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^{}]*))?\})")
_QUOTES: Final = "\"'"


def images(text: str, base: str, *, network: bool) -> tuple[str, ...]:
    """The images that a build starts from or copies from; `base` is the argument BASE.

    Raises EnvironmentMissing on what would be fetched although `network` is false, and on what
    cannot be read with certainty."""
    if len(text.encode()) > MAX_BYTES:
        raise _refused("is too long", f"more than {MAX_BYTES} bytes", "a shorter one")
    known: dict[str, str] = {}
    stages: list[str] = []  # their names, empty where they have none
    found: dict[str, None] = {}
    for name, rest in _instructions(text):
        _check_plain(name, rest, network=network)
        words = rest.split()
        if name == "ARG" and not stages:
            known |= _arguments(words, known, base)
        elif name == "FROM":
            image, stage = _from(words, known)
            if image.lower() not in {"scratch", *filter(None, stages)}:
                found[_image(image)] = None
            stages.append(stage.lower())
        elif name in ("COPY", "ADD"):
            earlier = {*filter(None, stages), *map(str, range(len(stages)))}
            found |= {each: None for each in _copied(words) if each.lower() not in earlier}
    if not stages:
        raise _refused("starts from nothing", "no FROM", "FROM an image")
    return tuple(found)


def takes_base(text: str) -> bool:
    """Whether the argument BASE is declared before the first stage."""
    for name, rest in _instructions(text):
        if name == "FROM":
            return False
        if name == "ARG" and any(word.partition("=")[0] == BASE for word in rest.split()):
            return True
    return False


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """(NAME, the rest) of each instruction, continued lines joined. What builders of different
    age read differently is refused."""
    joined = ""
    for line in (each.rstrip("\r") for each in text.removeprefix("\ufeff").split("\n")):
        bare = line.strip()
        if _ESCAPE.match(bare):
            raise _refused("changes the sign of continued lines", bare[:80], "the backslash")
        if _DOUBTFUL.search(line) or (joined and bare.startswith("#") and line[0] != "#"):
            raise _refused("can be read in two ways", bare[:80], "one backslash, no remark here")
        if not bare or bare.startswith("#"):
            continue
        if _CONTINUED.search(line):
            joined += _CONTINUED.sub("", line)
            continue
        name, _, rest = _BLANK.sub(" ", (joined + line).strip()).partition(" ")
        joined = ""
        yield name.upper(), rest
    if joined.strip():
        raise _refused("ends in the middle of a line", joined[-80:], "a whole instruction")


def _check_plain(name: str, rest: str, *, network: bool) -> None:
    """Refuse what hides a fetch, or is one."""
    if name == "ADD" and not network:
        raise _refused(
            "adds what may lie in the network, where builds have none",
            f"ADD {rest[:80]}",
            "COPY of a file beside the Dockerfile",
        )
    if name == "ONBUILD":
        raise _refused("holds instructions for other builds", f"ONBUILD {rest[:80]}", "none")
    if "<<" in rest and name in ("RUN", "COPY", "ADD"):
        raise _refused("has a document inside", f"{name} {rest[:80]}", "a file beside it")


def _arguments(words: list[str], known: Mapping[str, str], base: str) -> dict[str, str]:
    """Values of the arguments that an ARG declares; one without a value stays unknown."""
    values: dict[str, str] = {}
    for word in words:
        name, given, value = word.partition("=")
        if name == BASE:
            values[name] = base
        elif given:
            values[name] = _expanded(value.strip(_QUOTES), {**known, **values})
    return values


def _from(words: list[str], known: Mapping[str, str]) -> tuple[str, str]:
    """(image, name of the stage or nothing) of a FROM."""
    named = [word for word in words if not word.startswith("--")]
    right = len(named) == 1 or (len(named) == 3 and named[1].upper() == "AS")
    if not right:
        raise _refused("has a FROM that names no image", " ".join(words)[:80], "FROM IMAGE AS NAME")
    return _expanded(named[0].strip(_QUOTES), known), named[2] if len(named) == 3 else ""


def _copied(words: list[str]) -> Iterator[str]:
    """The image or stage that a COPY takes files from."""
    for word in (each for each in words if each.startswith("-")):
        if not _FLAG.fullmatch(word):
            raise _refused("has an option that cannot be read", word[:80], "--name=value")
        if word.startswith("--from="):
            yield _image(word.removeprefix("--from="))


def _expanded(text: str, known: Mapping[str, str]) -> str:
    """Text with its variables replaced; one that has no value is left, and so is refused."""

    def value(match: "re.Match[str]") -> str:
        default = match[3] if match[3] is not None else match[0]
        return known.get(match[1] or match[2]) or default

    return _VARIABLE.sub(value, text)


def _image(name: str) -> str:
    if not IMAGE.fullmatch(name):
        raise _refused("names an image that cannot be read", name[:80], "the image's plain name")
    return name


def _refused(what: str, found: str, expected: str) -> EnvironmentMissing:
    return EnvironmentMissing(
        f"the Dockerfile of an environment {what}",
        found=found,
        expected=expected,
        remedy="correct the Dockerfile and register the environment again; wheels and files may "
        "lie beside it",
    )
