"""The public names of the SDK are pinned, and cost nothing until they are used."""

import subprocess
import sys

import pytest

import tilth

NAMES = [
    "InvalidInput",
    "Network",
    "Plan",
    "Refused",
    "Task",
    "TilthError",
    "Unknown",
    "Unreachable",
    "__version__",
    "connect",
    "local",
    "verify",
]
HEAVY = ("grpc", "google.protobuf", "numpy", "h5py", "cryptography", "tilth_ledger")


def modules_after(code):
    script = f"import sys\n{code}\nprint(' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_these_are_the_public_names():
    assert tilth.__all__ == NAMES
    assert sorted(NAMES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name):
    assert getattr(tilth, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'surprise'"):
        _ = tilth.surprise


def test_importing_tilth_loads_nothing_heavy():
    assert modules_after("import tilth").isdisjoint(HEAVY)


def test_asking_for_the_version_loads_nothing_heavy():
    code = "from tilth.cli import main; main(['--version'])"

    assert modules_after(code).isdisjoint(HEAVY)


def test_building_plans_needs_no_network_stack():
    assert modules_after("import tilth.strategies").isdisjoint({"grpc", "google.protobuf"})


def test_the_version_is_the_distributions():
    from importlib.metadata import version

    assert tilth.__version__ == version("tilth")
