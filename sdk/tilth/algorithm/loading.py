"""From an unpacked archive to the object in it: an Algorithm, an Opener, a metric.

Invariants
- Each archive's module is loaded under a name of its own, so that two archives with an
  `algorithm.py` or a `model.py` of their own do not meet in `sys.modules` under the entry's name.
- A missing import is the environment's fault (EnvironmentMissing), any other error the code's.
"""

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tilth.algorithm.algorithm import Algorithm
from tilth.algorithm.errors import EnvironmentMissing, WrongShape
from tilth.algorithm.manifest import Manifest
from tilth.algorithm.opener import Opener


def algorithm(folder: Path, manifest: Manifest) -> Algorithm:
    """The archive's Algorithm, made without arguments."""
    found = _entry(folder, manifest, Algorithm)
    if not (inspect.isclass(found) and issubclass(found, Algorithm)):
        raise WrongShape(
            "an algo archive without an Algorithm",
            found=manifest.entry,
            remedy="Define a subclass of tilth.algorithm.Algorithm in it.",
        )
    return found()


def opener(folder: Path, manifest: Manifest) -> Opener:
    """The archive's Opener; a module with functions get_X and get_y is one too."""
    found = _entry(folder, manifest, Opener)
    if inspect.ismodule(found):
        return _of_functions(found)
    if not inspect.isclass(found):
        raise WrongShape(
            "an opener archive without an Opener",
            found=manifest.entry,
            remedy="Define a subclass of tilth.algorithm.Opener in it.",
        )
    made = found()
    return made if isinstance(made, Opener) else _of_functions(made)


def metric(folder: Path, manifest: Manifest) -> Any:
    """The archive's metric: a function score(y_true, y_pred); a class, made without arguments; or a
    module that holds one."""
    found = _entry(folder, manifest, None)
    return found() if inspect.isclass(found) else found


def _entry(folder: Path, manifest: Manifest, kind: type | None) -> Any:
    """What the manifest names; without a name the one subclass of `kind` that no other
    builds on, else the module."""
    module_name, name = manifest.entry
    if not module_name:
        raise WrongShape(
            "an archive without Python code",
            found=sorted(p.name for p in folder.iterdir()),
            expected="tilth.toml, or algorithm.py, opener.py or metric.py",
            remedy="Add one of these to the folder.",
        )
    module = _module(folder, module_name)
    if name:
        if not hasattr(module, name):
            raise WrongShape(
                "the manifest names what its module does not hold",
                found=name,
                remedy="Correct `entry` in tilth.toml.",
            )
        return getattr(module, name)
    made = [
        value
        for value in vars(module).values()
        if kind and inspect.isclass(value) and issubclass(value, kind) and value is not kind
    ]
    last = [c for c in made if not any(o is not c and issubclass(o, c) for o in made)]
    return last[0] if len(last) == 1 else module


def _module(folder: Path, name: str) -> ModuleType:
    path = folder / (name.replace(".", "/") + ".py")
    if not path.is_file():
        raise WrongShape(
            "the manifest names a module that is not there",
            found=f"{name}.py",
            remedy="Correct `entry` in tilth.toml.",
        )
    if str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: an archive cannot stand in for a library
    own_name = f"tilth_archive_{folder.name}"
    spec = importlib.util.spec_from_file_location(own_name, path)
    if spec is None or spec.loader is None:
        raise WrongShape(
            "a module that Python cannot load",
            found=f"{name}.py",
            remedy="Name a plain .py file in tilth.toml.",
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[own_name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise EnvironmentMissing(
            f"the code imports {error.name}, which its environment does not hold",
            remedy="name it in the environment's requirements",
        ) from error
    return module


def _of_functions(holder: Any) -> Opener:
    """An Opener from functions of the usual names, wherever they are."""
    made = Opener()
    for name in dir(Opener):
        if not name.startswith("_") and hasattr(holder, name):
            setattr(made, name, getattr(holder, name))
    if not hasattr(holder, "get_X"):
        raise WrongShape(
            "an opener without get_X",
            found=getattr(holder, "__name__", holder),
            remedy="Define get_X(folders), or let the class extend tilth.algorithm.Opener.",
        )
    return made
