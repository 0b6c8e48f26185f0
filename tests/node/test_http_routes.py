"""Targets name pages in one form each, or nothing; the budget bounds what requests may cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilth_ledger.tiles import Tile
from tilth_node.http.limits import HttpLimits, Purse
from tilth_node.http.routes import (
    BundlePage,
    CheckpointPage,
    GenesisFile,
    Index,
    PolicyPage,
    ProofPage,
    TilePage,
    page,
)


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("/", Index()),
        ("/checkpoint", CheckpointPage()),
        ("/policy", PolicyPage(None)),
        ("/policy/0", PolicyPage(0)),
        ("/policy/12", PolicyPage(12)),
        ("/genesis.json", GenesisFile()),
        ("/tile/0/x001/234", TilePage(Tile(0, 1234))),
        ("/tile/entries/000.p/7", TilePage(Tile(None, 0, 7))),
        ("/bundle/9007199254740991", BundlePage(9007199254740991)),
        ("/bundle/3/since/2", BundlePage(3, 2)),
        ("/proof/3.tlog-proof", ProofPage(3)),
        ("http://node.example:8080/checkpoint", CheckpointPage()),
    ],
)
def test_a_target_names_its_page(target, named):
    assert page(target) == named


@pytest.mark.parametrize(
    "target",
    [
        "",
        "checkpoint",
        "//checkpoint",
        "/checkpoint/",
        "/checkpoint?x=1",
        "/checkpoint#x",
        "/Checkpoint",
        "/%63heckpoint",
        "/policy/00",
        "/policy/-1",
        "/bundle/",
        "/bundle/01",
        "/bundle/1/since/",
        "/bundle/1/since/01",
        "/bundle/99999999999999999",
        "/proof/3",
        "/tile/0/../../genesis.json",
        "/tile/0/000/../000",
        "/../../../../etc/passwd",
        "/keys/member.seed",
        "/ledger.db",
        "*",
        "ftp://x/checkpoint",
    ],
)
def test_what_is_not_in_the_table_names_nothing(target):
    assert page(target) is None


@given(st.text(max_size=60).map("/".__add__))
def test_no_target_is_an_error(target):
    page(target)


def test_an_empty_purse_fills_with_time_and_never_beyond_its_burst():
    limits = HttpLimits(budget_ms_per_second=100.0, burst_ms=50.0, least_cost_ms=1.0)
    purse = Purse(limits)
    assert purse.open(1_000.0)
    purse.spend(0.04)
    assert purse.open(1_000.0)
    purse.spend(0.0)  # costs the least all the same
    purse.spend(0.03)
    assert not purse.open(1_000.0)
    assert not purse.open(1_000.2)
    assert purse.open(1_000.22)
    assert purse.open(2_000.0)
    purse.spend(0.051)
    assert not purse.open(2_000.0)
