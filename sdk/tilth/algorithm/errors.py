"""What the runner tells the node by its exit code, as exceptions.

User code may exit with any of these codes too: it only chooses the words of its own failure.
"""

from tilth_ledger.errors import TilthError


class WrongShape(TilthError):
    """An output is there and is not what its kind demands."""

    kind = "wrong_shape"


class EnvironmentMissing(TilthError):
    """The code imports what its environment does not hold."""

    kind = "environment"
