"""Ratios, and the confidence that one can have in them."""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

BINS = 15
"""Bins of confidence, as in Guo et al. (2017)."""

CONFIDENCE = 0.95


class Bin(msgspec.Struct, frozen=True):
    """Predictions whose confidence lies above ``low`` and up to ``high``."""

    low: float
    high: float
    clips: int
    confidence: float | None
    """The mean; None where the bin is empty, as is ``accuracy``."""
    accuracy: float | None


class Calibration(msgspec.Struct, frozen=True):
    """How far confidence is from accuracy; ``error`` is None without a prediction."""

    error: float | None
    bins: list[Bin]


def ratio(part: int, whole: int) -> float | None:
    """``part / whole`` to four places; None when ``whole`` is 0."""
    return round(part / whole, 4) if whole else None


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the values that aren't None, to four places; None without any."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 4) if known else None


def spread(values: Sequence[float]) -> Mapping[str, float | None]:
    """The median and the 90th percentile, to three places; None without values."""
    if not values:
        return {"median": None, "p90": None}
    median, p90 = np.percentile(values, (50, 90))
    return {"median": round(float(median), 3), "p90": round(float(p90), 3)}


def wilson(part: int, whole: int) -> tuple[float, float] | None:
    """95 % score interval of the proportion ``part / whole`` (Wilson, JASA 1927), to four places.

    None when ``whole`` is 0. Unlike the plain normal interval, it is valid near 0 and 1 and for
    few samples.
    """
    if not whole:
        return None
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)  # 1.96 standard deviations
    # (p + z²/2n ± z sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n), with weight z²/n.
    share, weight = part / whole, z * z / whole
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(share * (1 - share) * weight + weight * weight / 4) / (1 + weight)
    return round(max(0.0, centre - half), 4), round(min(1.0, centre + half), 4)


def most_expected(count: int) -> float:
    """The 95 % upper confidence bound of a Poisson mean after ``count`` events.

    It solves ``P(X <= count; mean) = 0.05``: 3.0 for none (the rule of three), 4.7 for one, 6.3
    for two. Raises ValueError for a negative count.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}")
    # The bound is above the count, and far below ten standard deviations above it.
    low, high = float(count), count + 10 * math.sqrt(count + 1)
    # Bisection, as the probability falls while the mean grows. 60 halvings exhaust a float.
    for _ in range(60):
        middle = (low + high) / 2
        if _poisson_at_most(count, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def _poisson_at_most(count: int, expected: float) -> float:
    """P(X <= ``count``) for a Poisson variable with the mean ``expected``."""
    if not expected:
        return 1.0
    # Each term expected^k exp(-expected) / k! by its logarithm: the factors alone overflow.
    log = math.log(expected)
    return math.fsum(math.exp(k * log - expected - math.lgamma(k + 1)) for k in range(count + 1))


def calibration(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], bins: int = BINS
) -> Calibration:
    """Expected calibration error over bins of equal width (Naeini et al. 2015; Guo et al. 2017).

    ``confidence`` is (N,) in 0 to 1, the probability of each prediction; ``right`` is (N,) bool,
    true for the right ones. The error is the mean over predictions of |accuracy - confidence| of
    their bin.
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    # (N,) bin of each prediction. A bin includes its upper edge; clip puts 0 into the first.
    place = np.clip(np.digitize(confidence, edges, right=True) - 1, 0, bins - 1)
    rows, error = [], 0.0
    for i in range(bins):
        own = place == i
        count = int(own.sum())
        mean_confidence = float(confidence[own].mean()) if count else None
        accuracy = float(right[own].mean()) if count else None
        if mean_confidence is not None and accuracy is not None:
            error += count / len(confidence) * abs(accuracy - mean_confidence)
        low, high = round(float(edges[i]), 4), round(float(edges[i + 1]), 4)
        rows.append(Bin(low, high, count, _rounded(mean_confidence), _rounded(accuracy)))
    return Calibration(round(error, 4) if len(confidence) else None, rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
