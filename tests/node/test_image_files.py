"""An image as one file: one byte form, every byte checked before an engine sees it."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from small_image import ENVIRONMENT, LAYERS, config, made, saved, sha

from tilth_ledger.canonical import dumps
from tilth_ledger.errors import InvalidInput
from tilth_ledger.rows import MemoryRows
from tilth_node.runtimes import Environment, Shipped, approved, imagefile, images
from tilth_node.worker.holders import wanted
from tilth_node.worker.images import offered


def test_what_was_written_is_read_as_the_same_image_without_its_names(tmp_path: Path) -> None:
    data = made(tmp_path)
    facts = imagefile.read(io.BytesIO(data))
    assert facts.image == sha(config(*LAYERS))
    assert facts.layers == tuple(map(sha, LAYERS))
    assert facts.environment == ENVIRONMENT
    assert b"evil" not in data
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert {(member.mtime, member.uid, member.mode) for member in archive} == {(0, 0, 0o644)}


def test_a_layer_that_an_engine_saved_as_a_link_is_written_once(tmp_path: Path) -> None:
    target = io.BytesIO()
    twice = [LAYERS[0], LAYERS[0]]
    facts = imagefile.write(saved(tmp_path, twice, config(*twice), linked=True), target)
    target.seek(0)
    assert imagefile.read(target) == facts
    assert len(facts.layers) == 2
    assert target.getvalue().count(LAYERS[0]) == 1


def test_layers_that_are_not_what_the_configuration_says_are_not_written(tmp_path: Path) -> None:
    path = saved(tmp_path, LAYERS, config(LAYERS[0], b"others"))
    with pytest.raises(InvalidInput, match="compressed or changed layers"):
        imagefile.write(path, io.BytesIO())


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        assert old in data
        return data.replace(old, new)

    return change


@pytest.mark.parametrize(
    "change",
    [
        replaced(b"lowestlowest", b"lowestLOWEST"),  # a layer
        replaced(b'"type": "layers"', b'"type": "LAYERS"'),  # the configuration
        replaced(b'"RepoTags":[]', b'"RepoTags":["tilth-task:latest"]'[:13]),
        replaced(b"manifest.json\0", b"manifest.jsom\0"),
        lambda data: data[:-1],
        lambda data: data + bytes(512),
        lambda data: data[:1_000],
        lambda data: b"",
        lambda data: b"\xff" * len(data),
        lambda data: data[:124] + b"77777777777" + data[135:],  # a size without end
    ],
)
def test_a_file_with_any_other_byte_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(InvalidInput, match=r"an image file .*image export"):
        imagefile.read(io.BytesIO(change(made(tmp_path))))


def renamed(data: bytes) -> bytes:
    """The file of an image that claims a name, in a form that is otherwise right."""
    facts = imagefile.read(io.BytesIO(data))
    prefix = "blobs/sha256/"
    stated = {"Config": prefix + facts.image, "Layers": [prefix + x for x in facts.layers]}
    manifest = dumps([{**stated, "RepoTags": ["tilth-task:latest"]}])
    info = tarfile.TarInfo("manifest.json")
    info.size, info.mode = len(manifest), 0o644
    rest = data[data.index(f"{prefix}{facts.image}\0".encode()) :]
    return info.tobuf(tarfile.USTAR_FORMAT) + manifest + bytes(-len(manifest) % 512) + rest


def test_the_text_of_a_file_that_is_no_image_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("patients:\n" + "x" * 1_000)
    with pytest.raises(InvalidInput) as refused, (tmp_path / "notes").open("rb") as file:
        imagefile.read(file)
    assert refused.value.found == "bytes that name no member"
    assert refused.value.expected == "manifest.json"


def test_a_file_can_put_no_image_under_a_name_that_is_in_use(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="lists other layers"):
        imagefile.read(io.BytesIO(renamed(made(tmp_path))))


@pytest.mark.parametrize(
    "stated", [b"{}", b"[]", b"no json", b'{"rootfs":{"diff_ids":["sha256:x"]}}', b"[" * 100_000]
)
def test_a_configuration_that_is_none_is_refused(tmp_path: Path, stated: bytes) -> None:
    with pytest.raises(InvalidInput, match="an image file"):
        imagefile.write(saved(tmp_path, [b"x"], stated), io.BytesIO())


# -- the operator's word


def test_a_word_of_the_operator_is_kept_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "engine" / approved.FILE
    assert approved.load(file) == {}
    approved.approve(file, "1" * 64, "2" * 64)
    approved.approve(file, "3" * 64, "4" * 64)
    assert approved.forget(file, "1" * 64)
    assert not approved.forget(file, "1" * 64)
    assert approved.load(file) == {"3" * 64: "4" * 64}


@pytest.mark.parametrize("text", ["no json", "[]", '{"a": "b"}', '"text"'])
def test_a_file_of_words_that_cannot_be_read_lets_nothing_in(tmp_path: Path, text: str) -> None:
    file = tmp_path / approved.FILE
    file.write_text(text)
    with pytest.raises(InvalidInput, match="cannot be read"):
        approved.load(file)


# -- which image is taken


def shipped(organization: str, image: str) -> Shipped:
    return Shipped(organization, image * 64, "f" * 64, 1)


OFFERS = Environment(images=(shipped("a", "1"), shipped("b", "2"), shipped("c", "2")))


@pytest.mark.parametrize(
    ("agreed", "images_from", "expected"),
    [
        ("", (), None),
        ("", ("d",), None),
        ("", ("b", "a"), ("b", "2")),
        ("sha256:" + "1" * 64, (), ("a", "1")),  # the id is what counts, not who offers it
        ("sha256:" + "2" * 64, ("a",), ("b", "2")),
        ("sha256:" + "3" * 64, ("a", "b"), None),
    ],
)
def test_the_agreed_image_is_taken_from_anybody_another_from_whom_the_operator_named(
    agreed: str, images_from: tuple[str, ...], expected: tuple[str, str] | None
) -> None:
    found = images.choose(OFFERS, agreed, images_from)
    assert (found and (found.organization, found.image[0])) == expected


def test_what_is_offered_is_what_is_stated_and_not_withdrawn() -> None:
    file = {"digest": "f" * 64, "size": 9}
    row = {"owner": "a", "image": "1" * 64, "file": file, "status": "active"}
    ledger = {
        f"image-of/{ENVIRONMENT}/a/1": {},
        f"image-of/{ENVIRONMENT}/a/2": {},
        "image/a/1": row,
        "image/a/2": {**row, "status": "withdrawn"},
        f"blob/{'f' * 64}/image/a/1": {},
        "organization/b": {},
    }
    rows = MemoryRows({key: dumps(value) for key, value in ledger.items()})
    assert offered(rows, ENVIRONMENT) == (Shipped("a", "1" * 64, "f" * 64, 9),)
    assert wanted(rows, "f" * 64, 100).holders == ("a",)
    assert wanted(rows, "f" * 64, 100).size == 9
