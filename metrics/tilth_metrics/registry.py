"""The table of built-in metrics: name -> module that holds it.

A module is imported when its metric is asked for, so that knowing the names costs no numpy.
"""

from importlib import import_module

from tilth_metrics.errors import MetricError
from tilth_metrics.metric import Metric

MODULES = {
    "accuracy": "tilth_metrics.confusion",
    "balanced_accuracy": "tilth_metrics.confusion",
    "f1": "tilth_metrics.confusion",
    "f1_binary": "tilth_metrics.confusion",
    "kappa": "tilth_metrics.confusion",
    "roc_auc": "tilth_metrics.ranking",
    "roc_auc_ovr": "tilth_metrics.ranking",
    "log_loss": "tilth_metrics.ranking",
    "mae": "tilth_metrics.regression",
    "rmse": "tilth_metrics.regression",
    "r2": "tilth_metrics.regression",
}


def names() -> tuple[str, ...]:
    """Names of the built-in metrics."""
    return tuple(MODULES)


def get(name: str) -> Metric:
    """The built-in metric of that name.

    Raises:
        MetricError: there is none; the message lists those that exist.
    """
    if name not in MODULES:
        raise MetricError(
            "There is no built-in metric of that name.",
            found=repr(name),
            expected=", ".join(MODULES),
            remedy="choose one of these, or register an archive with your own metric",
        )
    found: tuple[Metric, ...] = import_module(MODULES[name]).METRICS
    return next(metric for metric in found if metric.name == name)
