"""A round of two trainings and an aggregation, each in a new hardened container, on two nodes,
against bare containers that do the same.

The bare side has no node, no ledger and no hardening: create, send the files, start, wait, take
the model through the engine's API, with the same image, volumes, inputs and code, trainings side
by side. Removing containers counts on neither side.
"""

import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BAR = 1.3
ROUNDS = 10
COLD = 2  # rounds in which volumes are filled for the first time
ORGANIZATIONS = ("hospital-a", "hospital-b")

sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))


def tilth_rounds(field):
    """Milliseconds of each round, and the keys of the last one's tasks."""
    import hospital_code

    plan = field.averaging(rounds=ROUNDS, code=hospital_code.Mean)
    means = [f"hospital-a/{task.id}" for task in plan.tasks if task.kind == "aggregate"]
    changes = field.net.transport.watch([f"task/{key}" for key in means])
    for entry in plan.entries("hospital-a"):
        field.net.record(*entry)
    ended = []
    for change in changes:
        now = time.perf_counter()
        ended += [now for _, row in change.rows if row is not None and row["state"] == "done"]
        if len(ended) == len(means):
            break
    times = [1_000 * (b - a) for a, b in zip(ended[COLD:], ended[COLD + 1 :], strict=False)]
    trained = [each["task"] for each in field.net.rows.get(f"task/{means[-1]}")["inputs"]]
    return times, [*trained, means[-1]]


class Bare:
    """The same step in a plain container."""

    def __init__(self, api, field, task, last):
        from tilth_ledger.steps import Source, steps_of
        from tilth_node.runtimes.parcels import tree

        row = field.net.rows.get(f"task/{task}")
        (step,) = steps_of(row, field.net.rows.get)
        home = field.nodes.sites[ORGANIZATIONS.index(row["worker"])].folder
        from tilth_ledger.canonical import dumps

        self.api, self.files, self.trees = api, {"task.json": dumps(dict(step.task_json))}, {}
        for folder in step.folders:
            if folder.source is Source.ARCHIVE:
                self.trees[folder.path] = home / "code" / folder.digest
            elif folder.source is Source.SAMPLES:
                self.trees[folder.path] = home / "sets" / folder.set.rpartition("/")[2] / "data"
            elif folder.source is Source.MODEL:
                # The last model, of the same shape: those between rounds are gone by now.
                self.files[f"{folder.path}/model.h5"] = next((home / "vault").rglob(last))
                for report in reports(field, row, home):
                    self.files[f"{folder.path}.report.json"] = report
        self.sizes = [len(tree(path)) for path in self.trees.values()]

    def prepare(self, volumes, image, runner):
        """Fill the shared volumes, as the node did before."""
        import asyncio

        self.image = image
        self.mounts = {"/opt/tilth": runner}
        for path, folder in self.trees.items():
            self.mounts[f"/task/{path}"] = asyncio.run(volumes.tree(folder, image))

    def run(self):
        from docker.types import Mount

        from tilth_node.runtimes.parcels import outgoing

        api = self.api()
        mounts = [Mount(at, name, read_only=True) for at, name in self.mounts.items()]
        made = api.create_container(
            self.image,
            ["python", "-s", "-P", "-m", "tilth.algorithm", "/task"],
            environment={"PYTHONPATH": "/opt/tilth", "OMP_NUM_THREADS": "1"},
            user="0:0",
            host_config=api.create_host_config(mounts=mounts, network_mode="none"),
        )["Id"]
        api.put_archive(made, "/", outgoing({f"task/{p}": f for p, f in self.files.items()}))
        api.start(made)
        code = api.wait(made)["StatusCode"]
        assert code == 0, api.logs(made).decode()
        stream, _ = api.get_archive(made, "/task/out/model")
        assert b"".join(stream)
        return made


def reports(field, row, home):
    """The report of each input's maker, as the node laid it beside the model."""
    for each in row["inputs"]:
        maker = field.net.rows.get(f"task/{each['task']}") or {}
        if "report" in maker:
            yield from (home / "vault").rglob(maker["report"]["digest"])


def bare_rounds(field, engine, tasks):
    """Milliseconds of each round of bare containers."""
    import asyncio

    from docker import APIClient

    from tilth_node.runtimes.engine import Engine
    from tilth_node.runtimes.volumes import Volumes

    client = APIClient(engine.address, max_pool_size=4)
    image = engine.docker("image", "ls", "-q", "--no-trunc", "tilth-task")
    volumes = Volumes(Engine(engine.address), "bench")
    runner = asyncio.run(volumes.runner(image))
    last = field.net.rows.get(f"model/{tasks[-1]}/model")["digest"]
    for transport in (each.transport for each in field.nets):
        transport.put_blob(last, b"".join(transport.get_blob(last)))
    steps = [Bare(lambda: client, field, task, last) for task in tasks]
    for step in steps:
        step.prepare(volumes, image, runner)
    *trainings, mean = steps
    times, made = [], []
    with ThreadPoolExecutor() as pool:
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            made += pool.map(Bare.run, trainings)
            made.append(mean.run())
            times.append(1_000 * (time.perf_counter() - begun))
            for container in made:
                client.remove_container(container, force=True)
            made.clear()
    return times[1:]


def main():
    """Yields the median round, its ratio to bare containers being the bar."""
    from engine import Engine

    with Engine() as engine, tempfile.TemporaryDirectory() as name:
        engine.start()
        engine.make_images()
        engine.clear()
        os.environ["DOCKER_HOST"] = engine.address
        folder = Path(name)
        folder.chmod(0o755)
        from field import Field

        with Field(folder, members=len(ORGANIZATIONS)) as field:
            measured, tasks = tilth_rounds(field)
            bare = statistics.median(bare_rounds(field, engine, tasks))
        engine.clear()
    median = statistics.median(measured)
    yield {
        "figure": "docker-cold: two trainings + aggregation, a new hardened container per step",
        "value": round(median),
        "unit": "ms",
        "bar": f"{BAR} x bare containers",
        "holds": median <= BAR * bare,
        "against": f"bare containers with the same mounts, {bare:.0f} ms",
        "ratio": round(median / bare, 2),
    }
