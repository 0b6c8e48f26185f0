"""The environment that the sandbox offers: the node's own Python and its packages, read-only.

Invariants
- What is bound is the interpreter, its libraries and the packages of Tilth; nothing else of the
  host but /usr and the linker's cache.
- Environment variables are written here, none is inherited.
- One thread per process for numeric libraries: a process with threads cannot be forked safely.

A requirement that is not installed is an environment that cannot be had: `missing` says which.
"""

import compileall
import os
import re
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Final

from tilth_node.runtimes import Environment, EnvironmentMissing

_SYSTEM_LINKS: Final = ("/bin", "/sbin", "/lib", "/lib32", "/lib64")
_SYSTEM_FILES: Final = ("/etc/ld.so.cache", "/etc/alternatives")
_PACKAGES: Final = ("tilth", "tilth_ledger", "tilth_metrics")
_THREADS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "BLIS_NUM_THREADS",
)
_REQUIREMENT: Final = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


def layout() -> dict[str, Any]:
    """The facts of an isolation that depend on this host only: binds, links, interpreter."""
    folders = {"/usr", *map(os.path.realpath, (sys.prefix, sys.base_prefix)), sys.prefix}
    folders |= {_package_folder(name) for name in _PACKAGES}
    links = [(path, os.readlink(path)) for path in _SYSTEM_LINKS if os.path.islink(path)]
    plain = [p for p in _SYSTEM_LINKS if os.path.isdir(p) and not os.path.islink(p)]
    files = [path for path in (*_SYSTEM_FILES, *plain) if os.path.exists(path)]
    return {
        "binds": [(path, path) for path in (*_outermost(folders), *files)],
        "links": links,
        "python": sys.executable,
        "argv": [sys.executable, "-s", "-P", "-u", "-m", "tilth.algorithm", "--serve", "/task"],
        "environment": _environment(),
    }


def missing(requirements: list[str]) -> list[str]:
    """The requirements whose distribution is not installed here. Versions are not compared: what
    ran is in the receipt's environment digest, what is installed is the operator's choice."""
    absent = []
    for requirement in requirements:
        match = _REQUIREMENT.match(requirement)
        try:
            metadata.version(match.group(1) if match else requirement)
        except metadata.PackageNotFoundError:
            absent.append(requirement)
    return absent


def check(environment: Environment) -> None:
    """Raise EnvironmentMissing unless everything is installed that an environment asks for."""
    if environment.lock or environment.files or environment.base:
        raise EnvironmentMissing(
            "this node has no engine to build the environment with",
            found="an environment with a lock, an image or a Dockerfile",
            expected="a list of requirements, or a node with the docker runtime",
        )
    if absent := missing(list(environment.requirements)):
        raise EnvironmentMissing(
            "this node cannot offer the environment", found=f"not installed: {', '.join(absent)}"
        )


def compile_packages() -> None:
    """Write byte code of what every isolation imports: inside, nothing can be written, and a
    process that compiles it all starts 60 ms later. Where it cannot be written here either (an
    installation of root's), `pip` did it when it installed."""
    for folder in (f"{_package_folder('tilth')}/algorithm", *map(_package_folder, _PACKAGES[1:])):
        compileall.compile_dir(folder, quiet=2)


def source_roots() -> list[str]:
    """What `python -I -S` needs on its path to start an isolation."""
    return sorted({str(Path(_package_folder(n)).parent) for n in ("tilth_node", "tilth_ledger")})


def _environment() -> dict[str, str]:
    return {
        "PATH": f"{os.path.dirname(sys.executable)}:/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108  of the isolation
        "TMPDIR": "/tmp",  # noqa: S108
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONPATH": ":".join(sorted({os.path.dirname(_package_folder(n)) for n in _PACKAGES})),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        **dict.fromkeys(_THREADS, "1"),
    }


def _package_folder(name: str) -> str:
    file = import_module(name).__file__ if name != "tilth" else _find_without_import(name)
    return os.path.dirname(str(file))


def _find_without_import(name: str) -> str | None:
    """The node never imports the SDK; it only shows it to what it runs."""
    from importlib.util import find_spec

    spec = find_spec(name)
    return spec.origin if spec else None


def _outermost(folders: set[str]) -> list[str]:
    """The folders that lie in no other of them."""
    kept: list[str] = []
    for folder in sorted(folders):
        if not any(folder == k or folder.startswith(f"{k}/") for k in kept):
            kept.append(folder)
    return kept
