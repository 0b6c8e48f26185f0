"""Scoring of models: metric functions, their statistics, and the intervals of scores.

A metric is statistics per part, a combine, a reduce and an interval (metric.py); `score` turns rows
into perf.json (scoring.py). The modules: confusion (classes), ranking (scores, probabilities),
regression (numbers), rows (reading and refusing input), intervals. Importing this package loads no
numpy; asking for a metric does. How scores of several nodes combine on the ledger is not decided
here but in tilth_ledger.combine.
"""

from tilth_metrics.errors import BadRows, MetricError, Undefined
from tilth_metrics.metric import Metric
from tilth_metrics.registry import get, names
from tilth_metrics.scoring import score

__all__ = ["BadRows", "Metric", "MetricError", "Undefined", "get", "names", "score"]
