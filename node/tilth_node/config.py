"""The settings of one node, read from FOLDER/node.toml.

- What is read is complete and typed: a missing file, an unknown name, a wrong type or an address
  that is none is refused with the line's name, what was found and what to write instead.
- Settings never change while a node runs; keys and the genesis are files of their own.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tilth_ledger.errors import InvalidInput
from tilth_node.witness_address import WitnessAddress

FILE = "node.toml"
RUNTIMES = ("auto", "docker", "sandbox", "process")
NETWORKS = ("none", "default", "host")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator of a node decides."""

    folder: Path
    organization: str
    client_listen: str = "127.0.0.1:0"  # port 0: any free port, told in run/ready.json
    peer_listen: str = ""  # empty: accept no connection from peers, dial them
    http_listen: str = ""  # empty: nothing is served over HTTP
    witnesses: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    witness_every_seconds: int = 10  # between two heads that a witness is told
    witness_authority: str = ""  # a file of TLS authorities; empty: the system's
    witness_plain_http: bool = False  # also to other machines
    peers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    snapshot_after: int = 2_000  # blocks behind: more are not fetched one by one
    linear_reads: int = 2  # of one identity in a second, for long: each makes a block
    data_roots: tuple[Path, ...] = ()  # samples may be imported from below these
    runtime: str = "auto"
    allow_unisolated: bool = False  # the `process` runtime may run other organizations' code
    slots: int = 1  # tasks at a time
    task_memory_mb: int = 2_048  # of one process of a task
    task_seconds: int = 600  # of one step, at most
    engine_address: str = ""  # as DOCKER_HOST; empty: from there
    engine_base: str = "tilth-task"  # the image that environments are built on
    engine_wheels: str = ""  # a folder of wheels for builds
    engine_build_network: str = "none"  # what builds may reach
    engine_build_seconds: int = 3_600  # that one may take
    engine_images_from: tuple[str, ...] = ()  # organizations whose images are taken, best first
    log_level: str = "INFO"
    log_lines: str = "text"


# section -> name in the file -> (field of Config, what it must be)
SETTINGS: dict[str, dict[str, tuple[str, str]]] = {
    "": {"organization": ("organization", "text")},
    "client": {"listen": ("client_listen", "address")},
    "peer": {"listen": ("peer_listen", "address or empty")},
    "http": {"listen": ("http_listen", "address or empty")},
    "witness": {
        "every_seconds": ("witness_every_seconds", "count"),
        "authority": ("witness_authority", "text or empty"),
        "plain_http": ("witness_plain_http", "true or false"),
    },
    "ledger": {
        "snapshot_after": ("snapshot_after", "count"),
        "linear_reads": ("linear_reads", "count"),
    },
    "data": {"roots": ("data_roots", "folders")},
    "worker": {
        "runtime": ("runtime", "runtime"),
        "slots": ("slots", "count"),
        "task_memory_mb": ("task_memory_mb", "count"),
        "task_seconds": ("task_seconds", "count"),
        "allow_unisolated": ("allow_unisolated", "true or false"),
    },
    "engine": {
        "address": ("engine_address", "text or empty"),
        "base": ("engine_base", "text"),
        "wheels": ("engine_wheels", "text or empty"),
        "build_network": ("engine_build_network", "network"),
        "build_seconds": ("engine_build_seconds", "count"),
        "images_from": ("engine_images_from", "organizations"),
    },
    "log": {"level": ("log_level", "level"), "lines": ("log_lines", "json or text")},
}
WITNESSES = "witnesses"  # "https://host/prefix" = "verifier key", or a list of those
PEERS = "peers"  # organization = "host:port", for addresses that the ledger does not tell


def load(folder: Path) -> Config:
    """Read and check FOLDER/node.toml. Raises InvalidInput with one plain sentence."""
    path = folder / FILE
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(
            f"{folder} is not the folder of a node",
            found=f"no {FILE}",
            remedy=f"make one with: tilth node init {folder} --organization NAME",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{path} cannot be read as TOML", found=str(error), remedy="Correct it at that place."
        ) from error
    values = _values(path, document)
    if "organization" not in values:
        raise _mistake(
            path, "organization", "nothing", 'a line such as organization = "hospital-a"'
        )
    config = Config(folder=folder, **values)
    for url, keys in config.witnesses.items():
        try:
            WitnessAddress.parse(url, keys, plain_http=config.witness_plain_http)
        except InvalidInput as error:
            raise _mistake(path, url, str(error.found), str(error)) from error
    return config


def write(config: Config) -> str:
    """The text of a node.toml that says the same as `config`."""
    lines = [f"organization = {json.dumps(config.organization)}"]
    for section, names in SETTINGS.items():
        if section:
            lines += ["", f"[{section}]"]
            lines += [f"{name} = {_toml(getattr(config, to))}" for name, (to, _) in names.items()]
    asked = (f"{json.dumps(url)} = {_toml(keys)}" for url, keys in config.witnesses.items())
    lines += ["", f"[{WITNESSES}]", *asked]
    lines += ["", f"[{PEERS}]", *(f"{name} = {_toml(at)}" for name, at in config.peers.items())]
    return "\n".join(lines) + "\n"


def address(text: str) -> tuple[str, int]:
    """Split "host:port" or "[v6]:port". Raises InvalidInput."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65_535:
        raise InvalidInput(
            "this is no address",
            found=repr(text),
            expected="host:port",
            remedy="Write a host and a port, such as node.example:7100.",
        )
    return host.strip("[]"), int(port)


def _values(path: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for section, content in document.items():
        if section == PEERS and isinstance(content, dict):
            texts = {name: _checked(path, name, "address", at) for name, at in content.items()}
            values["peers"] = MappingProxyType(texts)
        elif section == WITNESSES and isinstance(content, dict):
            found = {url: _checked(path, url, "keys", keys) for url, keys in content.items()}
            values["witnesses"] = MappingProxyType(found)
        elif isinstance(content, dict) and section in SETTINGS:
            for name, value in content.items():
                values |= _setting(path, section, name, value)
        else:
            values |= _setting(path, "", section, content)
    return values


def _setting(path: Path, section: str, name: str, value: object) -> dict[str, Any]:
    known = SETTINGS[section]
    label = f"{section}.{name}" if section else name
    if name not in known:
        raise _mistake(path, label, "an unknown name", f"one of {', '.join(sorted(known))}")
    to, kind = known[name]
    return {to: _checked(path, label, kind, value)}


def _checked(path: Path, label: str, kind: str, value: object) -> Any:
    """The value as Config wants it, or a mistake in plain words."""
    match kind, value:
        case ("text", str()) if value:
            return value
        case ("address or empty", ""):
            return value
        case ("address" | "address or empty", str()):
            try:
                address(value)
            except InvalidInput as error:
                raise _mistake(path, label, repr(value), "host:port") from error
            return value
        case ("folders", list()) if all(isinstance(each, str) for each in value):
            return tuple(Path(each) for each in value)
        case ("organizations", list()) if all(isinstance(each, str) for each in value):
            return tuple(value)
        case ("keys", str()):
            return (value,)
        case ("keys", list()) if value and all(isinstance(each, str) for each in value):
            return tuple(value)
        case ("true or false", bool()):
            return value
        case ("count", int()) if not isinstance(value, bool) and value >= 1:
            return value
        case ("runtime", str()) if value in RUNTIMES:
            return value
        case ("text or empty", str()):
            return value
        case ("network", str()) if value in NETWORKS:
            return value
        case ("level", str()) if value in LEVELS:
            return value
        case ("json or text", "json" | "text"):
            return value
    choices = {"runtime": RUNTIMES, "level": LEVELS, "network": NETWORKS}
    expected = " or ".join(choices[kind]) if kind in choices else kind
    raise _mistake(path, label, repr(value), expected)


def _mistake(path: Path, label: str, found: str, expected: str) -> InvalidInput:
    return InvalidInput(
        f"{path} has a mistake at {label}",
        found=found,
        expected=expected,
        remedy="correct the file and start the node again",
    )


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps([str(each) for each in value])
    return json.dumps(value)
