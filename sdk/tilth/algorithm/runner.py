"""The runner: one step of the file contract, in the process that user code will own.

Invariants
- It reads task.json and the folders of its step below one root, and writes the declared outputs;
  there is no other channel.
- Its exit code says what kind of failure it was (`tilth_ledger.steps.EXIT_REASONS`); the words are
  in the log.
- A command of the manifest replaces this process; it gets the same root in TILTH_TASK.
"""

import errno
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tilth.algorithm import loading, manifest, parameters, rows, scoring
from tilth.algorithm.algorithm import Algorithm
from tilth.algorithm.data import Data, Features
from tilth.algorithm.errors import EnvironmentMissing, WrongShape
from tilth.algorithm.selection import cut, needs_labels, rows_of
from tilth.algorithm.task import Task
from tilth_ledger.errors import InvalidInput
from tilth_ledger.steps import CONTRACT, EXIT_CODES, Reason

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_WITH_LOCAL = ("train", "aggregate")
# Which archive's manifest may replace a step by a command.
_OWNER: Mapping[str, str] = {
    "init": "code",
    "train": "code",
    "aggregate": "code",
    "predict": "code",
    "features": "opener",
    "score": "metric",
}


def run(root: Path) -> int:
    """Run the step below `root`; returns the exit code of this process."""
    try:
        Step(root).run()
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)  # their variables hold what filled the memory
        traceback.print_exc()
        return EXIT_CODES[Reason.OUT_OF_MEMORY]
    except WrongShape:
        traceback.print_exc()
        return EXIT_CODES[Reason.WRONG_SHAPE]
    except EnvironmentMissing as error:
        print(error, file=sys.stderr)  # noqa: T201  standard error is the step's log
        return EXIT_CODES[Reason.ENVIRONMENT]
    except OSError as error:
        traceback.print_exc()
        return EXIT_CODES[Reason.TOO_LARGE] if error.errno in _FULL else 1
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # the outermost frame of user code: whatever it raised ends the step
        traceback.print_exc()
        return 1
    return 0


class Step:
    """One step, read from task.json."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.facts: Mapping[str, Any] = json.loads((root / "task.json").read_bytes())
        if self.facts["contract"] != CONTRACT:
            raise InvalidInput(
                "a task of another contract",
                found=self.facts["contract"],
                expected=CONTRACT,
                remedy="Bring the node and its task environment to the same version of Tilth.",
            )
        self._timings: dict[str, int] = {}

    def run(self) -> None:
        """Do what the step's kind says."""
        kind = self.facts["step"]
        if kind in _WITH_LOCAL:
            (self.root / "local").mkdir(exist_ok=True)  # empty when there is no ancestor
        self._reseed()
        owner = self.root / _OWNER[kind]
        if owner.is_dir() and (words := manifest.read(owner).commands.get(kind)):
            self._become(words, owner)
        {
            "init": self._init,
            "train": self._train,
            "aggregate": self._aggregate,
            "features": self._features,
            "predict": self._predict,
            "score": self._score,
        }[kind]()

    def _reseed(self) -> None:
        seed = int(self.facts["seed"])
        random.seed(seed)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(seed % (1 << 32))

    def _become(self, words: list[str], folder: Path) -> None:
        os.chdir(folder)
        os.environ["TILTH_TASK"] = str(self.root)
        sys.stdout.flush()
        try:
            os.execvp(words[0], words)  # noqa: S606  the archive's own command, without a shell
        except FileNotFoundError:
            raise EnvironmentMissing(
                "the archive's command does not exist",
                found=words,
                remedy="Correct it in tilth.toml, or name it in the environment.",
            ) from None

    # The steps

    def _init(self) -> None:
        algo, task = self._algorithm()
        self._save(algo, self._timed("start", lambda: algo.start(task)))
        self._report(task, None)

    def _train(self) -> None:
        algo, task = self._algorithm()
        data = Data(self._opener(), self._samples("data"), self.facts["selection"])
        model = self._timed("load", lambda: self._input_model(algo, task))
        trained = self._timed("train", lambda: algo.train(data, model, task))
        self._save(algo, trained)
        self._report(task, data.count)

    def _aggregate(self) -> None:
        algo, task = self._algorithm()
        models = [algo.load(self.root / "in" / i.name) for i in task.inputs]
        self._save(algo, self._timed("aggregate", lambda: algo.aggregate(models, task)))
        counts = [i.count for i in task.inputs]
        self._report(task, None if None in counts else sum(c for c in counts if c))

    def _features(self) -> None:
        """Export the chosen rows, sample by sample; a sample without any is left out."""
        opener = self._opener()
        folders = self._samples("data")
        parts = [opener.get_X([folder]) for folder in folders]
        sizes = [rows.count(part) for part in parts]
        selection = self.facts["selection"]
        labels = opener.get_y(folders) if needs_labels(selection) else None
        kept = cut(rows_of(selection, sum(sizes), labels), sizes)
        for folder, part, here in zip(folders, parts, kept, strict=True):
            if len(here):
                chosen = rows.take(part, here) if selection else part
                opener.export(chosen, self._new_folder("features", folder.name))

    def _predict(self) -> None:
        algo, task = self._algorithm()
        opener = self._opener()
        exported = self.facts["features"] == "exported"
        features = Features(opener, self._samples("features"), exported)
        model = self._timed("load", lambda: self._input_model(algo, task))
        found = self._timed("predict", lambda: algo.predict(features, model, task))
        for folder, part in zip(features.folders, features.split(found), strict=True):
            opener.save_predictions(part, self._new_folder("pred", folder.name))
        self._report(task, None)

    def _score(self) -> None:
        y_true, y_pred, samples = scoring.aligned(
            self._opener(),
            self._samples("data"),
            self.root / "pred",
            self.facts["selection"],
            already_cut=self.facts["features"] == "exported",
        )
        metric = self.facts["metric"]
        if "builtin" in metric:
            perf = scoring.builtin(metric["builtin"], y_true, y_pred, samples)
        else:
            folder = self.root / "metric"
            perf = scoring.custom(loading.metric(folder, manifest.read(folder)), y_true, y_pred)
        self._write_json("perf.json", scoring.plain(perf))

    # What they share

    def _algorithm(self) -> tuple[Algorithm, Task]:
        folder = self.root / "code"
        algo = loading.algorithm(folder, manifest.read(folder)) if folder.is_dir() else Algorithm()
        given = parameters.values(algo.parameters, self.facts["parameters"])
        return algo, Task(self.facts, given, self.root)

    def _opener(self) -> Any:
        folder = self.root / "opener"
        return loading.opener(folder, manifest.read(folder))

    def _samples(self, name: str) -> list[Path]:
        return sorted(p for p in (self.root / name).iterdir() if p.is_dir())

    def _input_model(self, algo: Algorithm, task: Task) -> Any:
        """No input: the start; one: its model; several: a dict by name."""
        models = {i.name: algo.load(self.root / "in" / i.name) for i in task.inputs}
        if not models:
            return algo.start(task)
        return next(iter(models.values())) if len(models) == 1 else models

    def _save(self, algo: Algorithm, model: Any) -> None:
        names = self.facts["outputs"]
        parts = {names[0]: model} if len(names) == 1 else model
        if not isinstance(parts, Mapping) or sorted(parts) != sorted(names):
            raise WrongShape(
                "a task of several outputs returned others",
                expected=names,
                remedy="Return a dict with exactly these names.",
            )
        for name in names:
            algo.save(parts[name], self._new_folder("out", name))

    def _report(self, task: Task, count: int | None) -> None:
        facts = {**task.reported(), "timings": self._timings}
        self._write_json("report.json", facts if count is None else {"count": count, **facts})

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        found = work()
        self._timings[f"{name}_us"] = int(1e6 * (time.perf_counter() - started))
        return found

    def _new_folder(self, *parts: str) -> Path:
        folder = self.root.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write_json(self, name: str, facts: Mapping[str, Any]) -> None:
        text = json.dumps(facts, allow_nan=False, separators=(",", ":"))
        (self.root / name).write_text(text, encoding="utf-8")
