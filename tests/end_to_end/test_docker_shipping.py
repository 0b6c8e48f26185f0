"""An image built at one hospital runs at another that could not build it, on real nodes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine import BASE, Engine
from field import Field

from tilth.assets import Algo
from tilth.cli import main
from tilth.plan import Plan
from tilth.run import Run

pytestmark = [pytest.mark.docker, pytest.mark.slow]

MANIFEST = """format = "tilth-1"
name = "grind"
capabilities = ["init"]

[commands]
init = ["python", "-u", "grind.py"]
"""
GRIND = """import os, sys
sys.path.append("/")
import quern
os.makedirs("/task/out/model")
open("/task/out/model/word", "w").write(quern.WORD)
print(quern.WORD)
"""


@pytest.fixture
def field(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Field]:
    """Two nodes on the test's engine."""
    engine.start_if_ended()
    engine.clear()
    monkeypatch.setenv("DOCKER_HOST", engine.address)
    with Field(tmp_path, members=2) as made:
        yield made


def grind(field: Field, folder: Path) -> Algo:
    """Code in an environment of its own: a Dockerfile with a module beside it."""
    recipe, code = folder / "recipe", folder / "grind"
    for each in (recipe, code):
        each.mkdir()
    (recipe / "Dockerfile").write_text(f"FROM {BASE}\nCOPY quern.py /\n")
    (recipe / "quern.py").write_text("WORD = 'ground'\n")
    (code / "tilth.toml").write_text(MANIFEST)
    (code / "grind.py").write_text(GRIND)
    environment = field.net.environments.add("quern", recipe)
    return field.net.algos.add(code, environment=environment)


def starts(field: Field, algo: Algo, at: str) -> Run:
    plan = Plan(f"at {at}")
    plan.init(algo, at=at)
    return field.wait(field.submit(plan))


def image_of(field: Field, run: Run) -> str:
    """The image that the run's only task names in its receipt."""
    (task,) = run.tasks()
    row = field.net.rows.get(f"task/{task.key}") or {}
    assert row["state"] == "done", run.logs()
    assert row["receipt"]["environments"]["init"] == field.net.environments.find("quern").digest
    return str(row["receipt"]["images"]["init"])


def test_an_image_is_exported_offered_approved_fetched_and_named_in_the_receipt(
    field: Field, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def operator(site: int, action: str, *words: object) -> Any:
        folder = str(field.nodes.sites[site].folder)
        capsys.readouterr()
        assert main(["node", "image", action, folder, *map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    algo = grind(field, tmp_path)
    first = operator(0, "build", "quern")["image"]
    built = image_of(field, starts(field, algo, "hospital-a"))
    assert built == first == operator(0, "build", "quern")["image"]
    file = tmp_path / "quern.tar"
    assert operator(0, "export", "quern", file)["image"] == built
    offer = field.net.environments.offer(field.net.environments.find("quern"), file)
    assert offer.image == built
    field.nets[1].rows.at_least(field.net.status()["size"])
    (listed,) = [e for e in operator(1, "list")["environments"] if e["name"] == "quern"]
    assert (listed["offered"], listed["approved"]) == ({"hospital-a": built}, "")

    # Approved is another image than the one that carries the environment's name on the engine.
    operator(1, "approve", "quern", "5" * 64)
    refused = starts(field, algo, "hospital-b")
    (failed,) = refused.tasks()
    assert (failed.state, failed.reason) == ("failed", "environment")
    assert f"found {built}" in refused.logs()

    engine.docker("image", "rm", "-f", built)
    operator(1, "approve", "quern", built)
    refused.retry()
    assert image_of(field, field.wait(refused)) == built
    vaults = [field.nodes.sites[i].folder / "vault" for i in range(2)]
    kept = [(vault / offer.file[:2] / offer.file).exists() for vault in vaults]
    assert kept == [True, False]

    # The same by hand: what is in the file is approved by bringing it, and no other.
    engine.docker("image", "rm", "-f", built)
    words = ["node", "image", "import", str(field.nodes.sites[0].folder), str(file), "--image"]
    assert main([*words, "5" * 64]) == 1
    assert "this is another image than was agreed on" in capsys.readouterr().err
    assert not engine.has(built)
    assert operator(0, "import", file, "--image", built)["image"] == built
    assert image_of(field, starts(field, algo, "hospital-a")) == built
