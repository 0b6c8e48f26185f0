"""`tilth.toml`: what an archive says of itself.

    format = "tilth-1"
    name = "Softmax"
    capabilities = ["aggregate", "init", "predict", "train"]

    [python]
    class = "algorithm:Softmax"    # module:class; for a metric, module:function

    [commands]                     # instead, or for some steps: any language
    train = ["./train", "--fast"]

    [[parameters]]
    name = "rate"
    type = "float"
    default = "0.5"

Invariants
- A folder without a manifest is one whose module has the usual name: algorithm.py, opener.py or
  metric.py.
- Unknown keys are refused, so that a typing error is not silently a default.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth_ledger.errors import InvalidInput

FILE = "tilth.toml"
FORMAT = "tilth-1"
_KEYS = frozenset(
    [
        *("format", "name", "version", "capabilities", "outputs"),
        *("python", "commands", "parameters", "environment"),
    ]
)
_KINDS: Mapping[str, type] = {
    "python": dict,
    "commands": dict,
    "capabilities": list,
    "parameters": list,
    "outputs": list,
}
_WORDS: Mapping[type, str] = {dict: "table", list: "list"}
_DEFAULT_MODULES = ("algorithm", "opener", "metric")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest, read. `entry` is (module, name in it or "")."""

    name: str = ""
    entry: tuple[str, str] = ("", "")
    commands: Mapping[str, list[str]] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, Any], ...] = ()
    outputs: tuple[str, ...] = ()

    def as_registered(self) -> dict[str, Any]:
        """The manifest as an `algo.add` holds it."""
        facts: dict[str, Any] = {
            "format": FORMAT,
            "capabilities": list(self.capabilities),
            "parameters": [dict(p) for p in self.parameters],
        }
        return {**facts, "outputs": list(self.outputs)} if self.outputs else facts


def read(folder: Path) -> Manifest:
    """The manifest of an unpacked archive; raises InvalidInput with what is wrong."""
    path = folder / FILE
    if not path.is_file():
        return Manifest(entry=(_usual_module(folder), ""))
    try:
        facts = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"{FILE} cannot be read: {error}", remedy="Correct it at that place."
        ) from None
    return parse(facts, folder)


def parse(facts: Mapping[str, Any], folder: Path) -> Manifest:
    """A manifest from its facts."""
    if unknown := sorted(set(facts) - _KEYS):
        raise InvalidInput(
            f"{FILE} has keys that do not exist",
            found=unknown,
            expected=sorted(_KEYS),
            remedy="Correct or remove them.",
        )
    if facts.get("format") != FORMAT:
        raise InvalidInput(
            f"{FILE} is of another format",
            found=facts.get("format"),
            expected=FORMAT,
            remedy=f"Write the line: format = {FORMAT!r}",
        )
    _check_kinds(facts)
    commands = facts.get("commands", {})
    if not all(isinstance(c, list) and c and all(map(_is_text, c)) for c in commands.values()):
        raise InvalidInput(
            f"a command in {FILE} is not a list of texts", remedy='write train = ["./train"]'
        )
    module, _, name = str(facts.get("python", {}).get("class", "")).partition(":")
    return Manifest(
        name=str(facts.get("name", "")),
        entry=(module or _usual_module(folder), name),
        commands=commands,
        capabilities=tuple(sorted(facts.get("capabilities", ()))),
        parameters=tuple(facts.get("parameters", ())),
        outputs=tuple(facts.get("outputs", ())),
    )


def _check_kinds(facts: Mapping[str, Any]) -> None:
    for key, kind in _KINDS.items():
        if not isinstance(facts.get(key, kind()), kind):
            raise InvalidInput(
                f"{key} in {FILE} is no {_WORDS[kind]}",
                found=repr(facts[key])[:80],
                remedy="Write it as the README of the SDK shows.",
            )
    if not all(map(_is_text, (*facts.get("capabilities", ()), *facts.get("outputs", ())))):
        raise InvalidInput(
            f"capabilities and outputs in {FILE} are texts", remedy="Write them in quotes."
        )
    if not all(isinstance(each, dict) for each in facts.get("parameters", ())):
        raise InvalidInput(f"a parameter in {FILE} is no table", remedy="Write [[parameters]].")


def write(manifest: Manifest) -> str:
    """The text of `tilth.toml`: equal manifests give equal text."""
    lines = [f'format = "{FORMAT}"', f"name = {_toml(manifest.name)}"]
    lines += [f"capabilities = {_toml(list(manifest.capabilities))}"] * bool(manifest.capabilities)
    lines += [f"outputs = {_toml(list(manifest.outputs))}"] * bool(manifest.outputs)
    module, name = manifest.entry
    if module:
        lines += ["", "[python]", f"class = {_toml(f'{module}:{name}' if name else module)}"]
    if manifest.commands:
        lines += ["", "[commands]"]
        lines += [f"{step} = {_toml(words)}" for step, words in sorted(manifest.commands.items())]
    for parameter in manifest.parameters:
        lines += ["", "[[parameters]]"]
        lines += [f"{key} = {_toml(value)}" for key, value in parameter.items()]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c >= " " else f"\\u{ord(c):04x}" for c in escaped) + '"'


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _usual_module(folder: Path) -> str:
    return next((name for name in _DEFAULT_MODULES if (folder / f"{name}.py").is_file()), "")
