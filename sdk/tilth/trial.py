"""Try an algorithm here, on made-up data, before any node sees it.

Runs in this process and without isolation: it is for your own code. It catches what most first
plans fail of: a missing method, arrays of the wrong shape, a model that cannot be saved, one
prediction too few.

Left to others: real data, isolation and limits (the nodes).
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tilth.algorithm import Algorithm, Data, Opener, Task, loading, manifest, parameters
from tilth.algorithm.data import Features
from tilth.errors import InvalidInput
from tilth.tables import table

SITES = 2  # made-up sites whose models are mixed


@dataclass(frozen=True, slots=True)
class Step:
    """One step that worked."""

    name: str
    seconds: float
    result: str


@dataclass(slots=True)
class Trial:
    """What worked, in order; prints as a table."""

    name: str
    rows: int
    steps: list[Step] = field(default_factory=list)

    def __str__(self) -> str:
        rows = [(step.name, f"{step.seconds:.3f}", step.result) for step in self.steps]
        head = f"{self.name} on {self.rows} made-up rows at {SITES} sites: all steps work"
        return f"{head}\n{table(('step', 'seconds', 'result'), rows)}"

    def run(self, name: str, work: Callable[[], Any]) -> Any:
        """Does one step and notes what came of it."""
        begun = time.perf_counter()
        made = work()
        self.steps.append(Step(name, round(time.perf_counter() - begun, 4), _shape(made)))
        return made


class Made(Opener):
    """An opener whose samples are what another one makes up."""

    def __init__(self, opener: Opener, rows: int) -> None:
        self._X, self._y = opener.fake_X(rows), opener.fake_y(rows)

    def get_X(self, folders: Sequence[Path]) -> Any:  # noqa: N802  the name users know
        """The made-up features, whatever the folders."""
        return self._X

    def get_y(self, folders: Sequence[Path]) -> Any:
        """The made-up targets."""
        return self._y


def trial(code: "type[Algorithm] | str | Path", opener: str | Path, *, rows: int = 30) -> Trial:
    """Start, train at two sites, mix, save, load and predict, on what the opener makes up.

    Raises whatever the code raises, and InvalidInput when predictions do not match the rows.
    """
    name, algo = _algorithm(code)
    fake = Made(loading.opener(_folder(opener), manifest.read(_folder(opener))), rows)
    found = Trial(name, rows)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        model = found.run("start", lambda: algo.start(_task(algo, "init", root)))
        trained = [_trained(found, algo, fake, model, root, site) for site in range(SITES)]
        mixing = _task(algo, "aggregate", root, counts=[rows] * SITES)
        mixed = found.run("aggregate", lambda: algo.aggregate(trained, mixing))
        mixed = _kept(found, algo, mixed, root / "mixed")
        features = Features(fake, [root], exported=False)
        predicting = _task(algo, "predict", root)
        predictions = found.run("predict", lambda: algo.predict(features, mixed, predicting))
    if len(predictions) != rows:
        raise InvalidInput(
            "predictions do not match the rows",
            found=f"{len(predictions)} predictions",
            expected=f"{rows}, one per row",
            remedy="Let predict return one prediction for each row.",
        )
    return found


def _trained(found: Trial, algo: Algorithm, fake: Opener, model: Any, root: Path, site: int) -> Any:
    # Each site gets a model of its own, through a file, as it will at the hospitals.
    own = _kept(found, algo, model, root / f"site-{site}")
    task = _task(algo, "train", root)
    return found.run("train", lambda: algo.train(Data(fake, [root]), own, task))


def _kept(found: Trial, algo: Algorithm, model: Any, folder: Path) -> Any:
    folder.mkdir()

    def keep() -> Any:
        algo.save(model, folder)
        return algo.load(folder)

    return found.run("save and load", keep)


def _task(algo: Algorithm, kind: str, root: Path, counts: Sequence[int] = ()) -> Task:
    random.seed(0)
    inputs = [
        {"name": f"site-{number}", "organization": f"site-{number}", "count": count}
        for number, count in enumerate(counts)
    ]
    facts = {
        "seed": 0,
        "kind": kind,
        "task": "trial/task",
        "plan": "trial/plan",
        "rank": 0,
        "organization": "trial",
        "inputs": inputs,
    }
    return Task(facts, parameters.values(algo.parameters, {}), root)


def _algorithm(code: "type[Algorithm] | str | Path") -> tuple[str, Algorithm]:
    if isinstance(code, type):
        return code.__name__, code()
    folder = _folder(code)
    stated = manifest.read(folder)
    return stated.name or folder.name, loading.algorithm(folder, stated)


def _folder(path: str | Path) -> Path:
    folder = Path(path).absolute()
    if not folder.is_dir():
        raise InvalidInput(
            "there is no such folder",
            found=str(folder),
            expected="a folder with tilth.toml",
            remedy="Check the path.",
        )
    return folder


def _shape(made: Any) -> str:
    """`{W: 64x10, b: 10}` of a dict of arrays; else what kind of thing it is."""
    if isinstance(made, dict):
        return "{" + ", ".join(f"{name}: {_shape(value)}" for name, value in made.items()) + "}"
    shape = getattr(made, "shape", None)
    if shape is not None:
        return "x".join(map(str, shape)) or "one number"
    return f"{len(made)} values" if hasattr(made, "__len__") else type(made).__name__
