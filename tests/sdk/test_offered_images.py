"""The file of an image as a person offers it: which image it names, and what is no such file."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tilth import images
from tilth.errors import InvalidInput

IMAGE = "ab" * 32


def written(path: Path, name: str, content: bytes) -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return path


def test_a_file_says_which_image_it_holds(tmp_path: Path) -> None:
    stated = json.dumps([{"Config": f"blobs/sha256/{IMAGE}", "Layers": []}]).encode()
    path = written(tmp_path / "image.tar", "manifest.json", stated)
    data = path.read_bytes()
    assert images.look(path) == (IMAGE, hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("another.json", b"[]"),
        ("manifest.json", b"no json"),
        ("manifest.json", b"[]"),
        ("manifest.json", b"[{}]"),
        ("manifest.json", b'[{"Config": 5}]'),
        ("manifest.json", b'[{"Config": "elsewhere.json"}]'),
    ],
)
def test_what_is_no_image_file_is_refused_with_the_command(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = written(tmp_path / "image.tar", name, content)
    with pytest.raises(InvalidInput, match=r"no image file.*tilth node image export"):
        images.look(path)


def test_a_file_that_is_no_tar_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    with pytest.raises(InvalidInput, match="no image file"):
        images.look(tmp_path / "text")
    with pytest.raises(InvalidInput, match="no such file"):
        images.look(tmp_path / "nothing")
