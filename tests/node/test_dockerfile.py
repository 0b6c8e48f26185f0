"""What a Dockerfile makes an engine fetch: every image is named, or it is refused."""

import pytest

from tilth_node.runtimes import EnvironmentMissing
from tilth_node.runtimes.dockerfile import images, takes_base


def named(text: str, *, network: bool = False) -> tuple[str, ...]:
    return images(text, "the-base", network=network)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a:1", ("a:1",)),
        ("from a:1 as Build\nFROM build\nFROM b", ("a:1", "b")),
        ("FROM --platform=linux/amd64 a", ("a",)),
        ("FROM scratch\nCOPY x /", ()),
        ("ARG BASE=python:3.11-slim\nFROM ${BASE}", ("the-base",)),
        ("ARG BASE\nFROM $BASE", ("the-base",)),
        ("ARG TAG=3\nARG FULL=py:${TAG}\nFROM $FULL", ("py:3",)),
        ("FROM ${NAME:-fallback}", ("fallback",)),
        ("FROM a\nCOPY --from=nginx:latest /x /", ("a", "nginx:latest")),
        ("FROM a AS one\nFROM b\nCOPY --from=one /x /\nCOPY --from=0 /y /", ("a", "b")),
        ("FROM a\nFROM 0", ("a", "0")),
        ("FR\\\nOM a", ("a",)),
        ("# FROM no\nFROM a\nRUN x \\\n# FROM no\n  y", ("a",)),
        ("\ufeffFROM a\r\nRUN true \\\r\n  false\r\n", ("a",)),
    ],
)
def test_every_image_that_a_build_asks_for_is_named(text: str, expected: tuple[str, ...]) -> None:
    assert named(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "RUN no-stage",
        "FROM",
        "FROM a b",
        "FROM $UNKNOWN",
        "FROM a\\b",
        "# escape=`\nFROM a",
        "FROM a\nONBUILD RUN x",
        "FROM a\nCOPY --fr\\om=nginx /x /",
        'FROM a\nCOPY --"from"=nginx /x /',
        "FROM a\nCOPY --from=$X /x /",
        "FROM a\nRUN x \\\\\nFROM b",
        "FROM a\nRUN x \\\n  # remark\nFROM b",
        "FROM a\nRUN <<END\nEND",
        "FROM a\nRUN x \\",
        "FROM a\n" + "#" * (1 << 18),
    ],
)
def test_what_cannot_be_read_with_certainty_is_refused(text: str) -> None:
    with pytest.raises(EnvironmentMissing, match="the Dockerfile of an environment"):
        named(text, network=True)


def test_add_fetches_by_itself_so_it_needs_a_network() -> None:
    text = "FROM a\nADD http://example.org/x /x"
    with pytest.raises(EnvironmentMissing, match=r"ADD http://example\.org.*COPY of a file"):
        named(text)
    assert named(text, network=True) == ("a",)


def test_a_dockerfile_says_whether_it_takes_the_base() -> None:
    assert takes_base("ARG BASE=x\nFROM $BASE")
    assert not takes_base("FROM x\nARG BASE")
    assert not takes_base("ARG BASEMENT\nFROM x")
