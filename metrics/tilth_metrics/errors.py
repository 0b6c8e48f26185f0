"""Errors of scoring: what was found, what was expected, what to do next.

MetricError
|-- BadRows      shapes, lengths or values that no metric can be computed from
|-- Undefined    the rows are fine but this metric has no value on them (it never becomes a NaN)

This package stands beside tilth_ledger and cannot use its error tree.
"""


class MetricError(ValueError):
    """A score that cannot be given; the facts are attributes, str() is one readable text."""

    def __init__(
        self, message: str, *, found: str = "", expected: str = "", remedy: str = ""
    ) -> None:
        self.message = message
        self.found = found
        self.expected = expected
        self.remedy = remedy
        parts = [message]
        parts += [f"Found: {found}."] if found else []
        parts += [f"Expected: {expected}."] if expected else []
        parts += [f"What to do: {remedy}."] if remedy else []
        super().__init__(" ".join(parts))


class BadRows(MetricError):
    """The truth or the predictions cannot be read as what the metric needs."""


class Undefined(MetricError):
    """The metric has no value on these rows (for instance AUC with one class)."""
