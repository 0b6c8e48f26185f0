"""What users write, for tests that run real tasks: an opener, an honest algorithm, hostile ones."""

import os
import socket
import time
from pathlib import Path

import numpy as np

from tilth.algorithm import Algorithm, Opener, Parameter


class Rows(Opener):
    """A sample is a folder with x.npy (n, 2) and y.npy (n,)."""

    def get_X(self, folders):  # noqa: N802
        return np.concatenate([np.load(f / "x.npy") for f in folders])

    def get_y(self, folders):
        return np.concatenate([np.load(f / "y.npy") for f in folders])

    def fake_X(self, n):  # noqa: N802
        return np.zeros((n, 2))

    def fake_y(self, n):
        return np.zeros(n, int)


class Mean(Algorithm):
    """Each class's mean: a model that averages exactly. `seconds` makes a training long."""

    parameters = [Parameter("seconds", float, 0, low=0, high=600)]

    def start(self, task):
        return {"centers": np.zeros((2, 2))}

    def train(self, data, model, task):
        time.sleep(float(task.parameters["seconds"]))
        X, y = data.X, data.y
        return {"centers": np.stack([X[y == c].mean(axis=0) for c in (0, 1)])}

    def predict(self, features, model, task):
        distances = ((features.X[:, None] - model["centers"]) ** 2).sum(axis=2)
        return distances.argmin(axis=1)


class Busy(Mean):
    """A training that computes until somebody ends it."""

    def train(self, data, model, task):
        while True:
            np.sort(np.random.default_rng(0).random(1 << 16))


LARGE_BYTES = 64 << 20


class Large(Mean):
    """A model that takes a moment to travel."""

    def start(self, task):
        return {"centers": np.random.default_rng(0).random(8 << 20)}


class Heavy(Mean):
    """A training that takes a large model and leaves another, and a log of a megabyte."""

    def start(self, task):
        return {"centers": np.random.default_rng(0).random(2 << 20)}

    def train(self, data, model, task):
        os.write(1, os.urandom(8).hex().encode() + b"x" * (1 << 20))  # no two logs are alike
        return {"centers": model["centers"] + 1}


class Visits(Mean):
    """Counts in the local folder how often it was at a site."""

    def train(self, data, model, task):
        file = task.local / "visits"
        visits = 1 + (int(file.read_text()) if file.exists() else 0)
        file.write_text(str(visits))
        task.report(visits=visits)
        return super().train(data, model, task)


class Noisy(Mean):
    """Every training gives another model."""

    def train(self, data, model, task):
        found = super().train(data, model, task)
        return {"centers": found["centers"] + np.random.default_rng(task.seed).normal(0, 0.01)}


class Lingers(Mean):
    """A training that, when its model is written, stays until the test says so."""

    def save(self, model, folder):
        super().save(model, folder)
        if '"step":"train"' in Path("/task/task.json").read_text():
            while not Path("/tmp/go").exists():
                time.sleep(0.05)


class NeverRun(Mean):
    """Registered and never used."""


class Exits(Mean):
    def train(self, data, model, task):
        print("about to leave with 3", flush=True)
        os._exit(3)


class Raises(Mean):
    def train(self, data, model, task):
        raise ValueError("a secret of the log")


class Hangs(Mean):
    def train(self, data, model, task):
        while True:
            time.sleep(1)


class EatsMemory(Mean):
    def train(self, data, model, task):
        hoard = []
        while True:
            hoard.append(np.ones(1 << 22))


class LeavesAFolderAsReport(Mean):
    def train(self, data, model, task):
        Path("/task/out/model").mkdir(parents=True)
        Path("/task/out/model/x").write_text("x")
        Path("/task/report.json").mkdir()
        Path("/task/report.json/x").write_text("x")
        os._exit(0)


class WritesManyFiles(Mean):
    """A model of more files than anybody would unpack."""

    def save(self, model, folder):
        super().save(model, folder)
        if "train" in Path("/task/task.json").read_text().split('"step":', 1)[1][:9]:
            for number in range(2_001):
                (folder / str(number)).write_bytes(b"x")


class WritesNoModel(Mean):
    def train(self, data, model, task):
        os._exit(0)


class LogsForEver(Mean):
    def train(self, data, model, task):
        text = b"x" * (1 << 20)
        for _ in range(1 << 10):
            os.write(1, text)
        return super().train(data, model, task)


class OpensASocket(Mean):
    parameters = [Parameter("port", int, 22, low=1, high=65_535)]

    def train(self, data, model, task):
        socket.create_connection(("127.0.0.1", int(task.parameters["port"])), timeout=5)
        return model


class ReadsPasswd(Mean):
    def train(self, data, model, task):
        Path("/etc/passwd").read_text()
        return model


class Copies(Mean):
    """Takes whatever files an input holds for its model."""

    def load(self, folder):
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        return {"loot": np.frombuffer(b"".join(p.read_bytes() for p in files), np.uint8)}

    def train(self, data, model, task):
        return model


class LooksForLabels(Mean):
    def predict(self, features, model, task):
        found = [p for root in ("/task", "/data") for p in Path(root).rglob("y.npy")]
        if not found:
            raise FileNotFoundError("no labels anywhere")
        return np.concatenate([np.load(p) for p in found])


def never_a_number(y_true, y_pred):
    """A metric."""
    return {"all": float("nan"), "count": len(y_true)}
