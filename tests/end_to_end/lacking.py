"""What a machine lacks that a test needs: a failure in CI, elsewhere a skip that says why."""

import os
from typing import NoReturn

import pytest


def required() -> bool:
    """Whether what is missing is a failure."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def lacks(reason: str) -> NoReturn:
    """This test cannot run here."""
    if required():
        pytest.fail(f"{reason}; with CI={os.environ['CI']} no test is left out", pytrace=False)
    pytest.skip(reason)
