"""The settings of a node: what is read, and what a mistake is told."""

from pathlib import Path

import pytest

from tilth_ledger.errors import InvalidInput
from tilth_node import config
from tilth_node.config import Config


def load(folder: Path, text: str) -> Config:
    (folder / config.FILE).write_text(text)
    return config.load(folder)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    settings = Config(
        folder=tmp_path,
        organization="hospital-a",
        peer_listen="0.0.0.0:7402",
        peers={"hospital-b": "b.example:7402"},
        data_roots=(Path("/srv/data"),),
        slots=3,
    )
    assert load(tmp_path, config.write(settings)) == settings


def test_an_organization_is_enough(tmp_path: Path) -> None:
    assert load(tmp_path, 'organization = "a"').peer_listen == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "organization"),
        ("organization = 3", "organization"),
        ('organization = "a"\n[client]\nlisten = "nowhere"', "client.listen"),
        ('organization = "a"\n[client]\nport = 3', "client.port"),
        ('organization = "a"\n[worker]\nslots = true', "worker.slots"),
        ('organization = "a"\n[worker]\nruntime = "magic"', "auto or docker"),
        ('organization = "a"\n[peers]\nb = "b.example"', "host:port"),
        ('organization = "a"\n[typo]\nx = 1', "typo"),
        ("organization = ", "TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(tmp_path, text)
    assert words in str(caught.value)


def test_a_folder_without_settings_names_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        config.load(tmp_path)
    assert "tilth node init" in caught.value.remedy
