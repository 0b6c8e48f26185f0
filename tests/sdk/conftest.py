"""Assets as a consortium of three hospitals would have them."""

import pytest

from tilth.assets import Algo, Dataset, Objective, SampleSet, TestSet


def key(organization, number):
    return f"{organization}/{number:032x}"


@pytest.fixture
def algo():
    parameters = ({"name": "rate", "type": "float"}, {"name": "steps", "type": "int"})
    return Algo(key("hospital-a", 1), "Softmax", "a" * 64, parameters=parameters)


@pytest.fixture
def sites():
    """Three hospitals, each with a train set of two sizes (the larger is the current one)."""
    found = []
    for organization in ("hospital-a", "hospital-b", "hospital-c"):
        dataset = key(organization, 2)
        sets = (
            SampleSet(key(organization, 3), dataset, "train", 10),
            SampleSet(key(organization, 4), dataset, "train", 25),
            SampleSet(key(organization, 5), dataset, "test", 5),
        )
        found.append(Dataset(dataset, "digits", sets=sets))
    return found


@pytest.fixture
def goal(sites):
    sets = tuple(TestSet(site.key, site.set_of("test").key, True) for site in sites)
    metric = {"builtin": "accuracy"}
    owner = key("hospital-a", 9)
    return Objective(owner, "digits accuracy", metric, "maximize", "pooled", 1, sets)
