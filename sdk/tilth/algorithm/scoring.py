"""The score step: truth against predictions, to perf.json.

Invariants
- Truth and predictions meet sample by sample; one prediction too few or too many is WrongShape,
  never a shifted score.
- A score that is not a finite number is written as it is, as text ("nan"), and ranks nowhere.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilth.algorithm import rows
from tilth.algorithm.errors import WrongShape
from tilth.algorithm.opener import Opener
from tilth.algorithm.selection import cut, rows_of

MOST_SAMPLES = 50_000


def aligned(
    opener: Opener,
    samples: Sequence[Path],
    predictions: Path,
    selection: Mapping[str, Any],
    already_cut: bool,
) -> tuple[Any, Any, list[tuple[str, int]]]:
    """(truth, predictions, rows of each sample) of the chosen rows.

    `already_cut`: predictions are of the chosen rows only, and samples without any have none.
    """
    truths = [opener.get_y([folder]) for folder in samples]
    whole = rows.join(truths)
    sizes = [rows.count(truth) for truth in truths]
    chosen = rows_of(selection, sum(sizes), whole)
    guesses: list[Any] = []
    counts: list[tuple[str, int]] = []
    for folder, size, here in zip(samples, sizes, cut(chosen, sizes), strict=True):
        if not len(here):
            continue
        guess = opener.get_predictions(predictions / folder.name)
        expected = len(here) if already_cut else size
        if rows.count(guess) != expected:
            raise WrongShape(
                "predictions do not match the rows of a sample",
                found=f"{rows.count(guess)} for {folder.name}",
                expected=expected,
                remedy="Return one prediction for each row, in their order.",
            )
        guesses.append(guess if already_cut else rows.take(guess, here))
        counts.append((folder.name, len(here)))
    return rows.take(whole, chosen), rows.join(guesses), counts


def builtin(name: str, y_true: Any, y_pred: Any, samples: list[tuple[str, int]]) -> dict[str, Any]:
    """perf.json of a built-in metric."""
    import tilth_metrics

    try:
        # Values of very many samples would not fit perf.json; the score itself always does.
        few = samples if len(samples) <= MOST_SAMPLES else None
        return tilth_metrics.score(name, y_true, y_pred, samples=few)
    except tilth_metrics.Undefined as undefined:
        print(undefined)  # noqa: T201  the log of the step is where people look
        return {"all": "nan", "count": rows.count(y_true)}
    except tilth_metrics.BadRows as bad:
        raise WrongShape(
            str(bad), remedy="Compare what predict returns with the labels that the opener reads."
        ) from bad


def custom(metric: Any, y_true: Any, y_pred: Any) -> dict[str, Any]:
    """perf.json of a metric archive: a function, or statistics and reduce."""
    if hasattr(metric, "statistics") and hasattr(metric, "reduce"):
        value = metric.reduce(metric.statistics(y_true, y_pred))
    else:
        score = metric if callable(metric) else getattr(metric, "score", None)
        if score is None:
            raise WrongShape(
                "a metric archive without score(y_true, y_pred)",
                remedy="Define score, or statistics and reduce, in metric.py.",
            )
        value = score(y_true, y_pred)
    perf = dict(value) if isinstance(value, Mapping) else {"all": value}
    if "all" not in perf:
        raise WrongShape(
            "a score without its value",
            found=sorted(perf),
            expected='the key "all"',
            remedy='Return a number, or a dict whose "all" is the score.',
        )
    return {"count": rows.count(y_true), **perf}


def plain(value: Any) -> Any:
    """perf.json's numbers as JSON: arrays' numbers unwrapped, what is not finite as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (str, bool, int)):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    number = float(value)
    return number if math.isfinite(number) else str(number)
