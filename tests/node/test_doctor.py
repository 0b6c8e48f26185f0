"""`tilth node doctor`: what is wrong is found and said with a remedy; what is right passes."""

from pathlib import Path

import pytest

from tilth_node import config, doctor, founding
from tilth_node.clock import Clock


class EarlyClock(Clock):
    """A machine whose clock starts in 1970."""

    def wall_ms(self) -> int:
        return 1_000


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    (tmp_path / "data").mkdir()
    site = founding.Site("hospital-a", "Hospital A", data_roots=(tmp_path / "data",))
    founding.init(tmp_path / "node", site, Clock())
    return config.load(tmp_path / "node")


def found(settings: config.Config, clock: Clock | None = None) -> dict[str, doctor.Finding]:
    return {each.name: each for each in doctor.examine(settings, clock or Clock())}


def test_a_fresh_folder_is_well(settings: config.Config) -> None:
    assert [each for each in found(settings).values() if not each.holds] == []


def test_a_missing_data_root_is_found(settings: config.Config, tmp_path: Path) -> None:
    (tmp_path / "data").rmdir()
    finding = found(settings)[f"data root {tmp_path / 'data'}"]
    assert not finding.holds
    assert "node.toml" in str(finding)


def test_keys_that_others_read_are_found(settings: config.Config) -> None:
    (settings.folder / "keys" / "node.seed").chmod(0o644)
    finding = found(settings)["keys"]
    assert not finding.holds
    assert "chmod" in finding.remedy


def test_a_lost_authority_is_found(settings: config.Config) -> None:
    (settings.folder / "keys" / "authority.pem").unlink()
    assert not found(settings)["TLS authority"].holds


def test_a_clock_that_never_was_set_is_found(settings: config.Config) -> None:
    finding = found(settings, EarlyClock())["clock"]
    assert not finding.holds
    assert "time server" in finding.remedy


async def test_the_isolation_is_tried_and_graded(settings: config.Config) -> None:
    grade, findings = await doctor.isolation(settings)
    assert grade in "BC"
    assert {"read accounts", "open network socket", "fork without end"} <= {
        f.name for f in findings
    }
