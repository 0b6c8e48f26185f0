"""Intervals of scores, all at 95 %, all deterministic: the same rows give the same digits.

Sources:
- Wilson: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
  JASA 22 (1927).
- Mover ("method of variance estimates recovery"): G. Y. Zou and A. Donner, "Construction of
  confidence limits about effect measures", Statistics in Medicine 27 (2008); it joins the limits
  of independent parts into limits of their mean.
- Score interval of the AUC: R. G. Newcombe, "Confidence intervals for an effect size measure based
  on the Mann-Whitney statistic, part 2", Statistics in Medicine 25 (2006), method 5.
- Normal: the central limit theorem with the sample variance.
"""

import math
from collections.abc import Callable, Sequence

from tilth_metrics.metric import Interval

Z = 1.959963984540054  # the 97.5 % point of the standard normal


def wilson(successes: int, trials: int) -> Interval:
    """Interval of a proportion; within [0, 1] and never of zero width."""
    share = successes / trials
    shrink = 1 + Z * Z / trials
    centre = (share + Z * Z / (2 * trials)) / shrink
    half = Z / shrink * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return low, high


def mover_mean(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Interval of the mean of independent parts, each given as (value, its own interval)."""
    mean = math.fsum(value for value, _ in parts) / len(parts)
    below = math.sqrt(math.fsum((value - low) ** 2 for value, (low, _) in parts)) / len(parts)
    above = math.sqrt(math.fsum((high - value) ** 2 for value, (_, high) in parts)) / len(parts)
    return mean - below, mean + above


def normal(value: float, variance: float, count: int) -> Interval:
    """Interval of a mean of `count` rows whose per-row variance is `variance`."""
    half = Z * math.sqrt(max(variance, 0.0) / count)
    return value - half, value + half


def auc_score(auc: float, positives: int, negatives: int) -> Interval:
    """Newcombe's method 5: all values of the AUC that the observed one does not contradict."""
    spread = (positives + negatives) / 2 - 1

    def distance(theta: float) -> float:
        ties = spread * (1 - theta) / (2 - theta) + spread * theta / (1 + theta)
        variance = theta * (1 - theta) * (1 + ties) / (positives * negatives)
        return abs(theta - auc) - Z * math.sqrt(max(variance, 0.0))

    low = 0.0 if auc <= 0 else _boundary(distance, outside=0.0, inside=auc)
    high = 1.0 if auc >= 1 else _boundary(distance, outside=1.0, inside=auc)
    return low, high


def _boundary(distance: Callable[[float], float], outside: float, inside: float) -> float:
    """Bisects to where `distance` changes sign; 60 halvings reach the last bit of a float."""
    for _ in range(60):
        middle = (outside + inside) / 2
        if distance(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside
