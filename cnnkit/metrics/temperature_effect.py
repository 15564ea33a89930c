"""What a model's temperature does on other images than those it was fitted on: calibration error and loss without and with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnkit.metrics.calibration import ReliabilityBin, calibration_error, confidence_counts, reliability_bins
from cnnkit.metrics.intervals import Estimate, bootstrap_mean
from cnnkit.metrics.temperature import Calibration, log_losses, softmax

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cnnkit.metrics.classification import ClassificationReport


@dataclass(frozen=True)
class Measured:
    """Probabilities of one split: `ece` in [0, 1] and `loss` in nats with intervals, and what the reliability diagram shows of them.

    `histogram` counts the images by confidence, in equal parts of [0, 1].
    """

    ece: Estimate
    loss: Estimate
    bins: tuple[ReliabilityBin, ...]
    histogram: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the value for JSON."""
        bins = [each.to_dict() for each in self.bins]
        return {"ece": self.ece.to_dict(), "loss": self.loss.to_dict(), "bins": bins, "histogram": list(self.histogram)}


@dataclass(frozen=True)
class TemperatureEffect:
    """The probabilities of one split `before` (at temperature 1) and `after` the temperature.

    `fitted` is what is known of the temperature; None for a model that was never calibrated.
    """

    temperature: float
    fitted: Calibration | None
    before: Measured
    after: Measured

    @property
    def change(self) -> Literal["none", "fell", "rose", "unclear"]:
        """What became of the calibration error; it fell or rose only where the two intervals do not overlap."""
        if self.temperature == 1:
            return "none"
        if self.after.ece.high < self.before.ece.low:
            return "fell"
        return "rose" if self.before.ece.high < self.after.ece.low else "unclear"

    def to_dict(self) -> dict[str, Any]:
        """Return the key ``calibration`` of metrics.json."""
        return {
            "temperature": self.temperature,
            "ece_before": self.before.ece.to_dict(),
            "ece_after": self.after.ece.to_dict(),
            "change": self.change,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "fitted_on": self.fitted.to_dict() if self.fitted else None,
        }


def temperature_effect(
    labels: ArrayLike,
    probabilities: ArrayLike,
    temperature: float,
    fitted: Calibration | None = None,
    *,
    report: ClassificationReport | None = None,
) -> TemperatureEffect:
    """Return what `temperature` did to the `probabilities` (N, K) it gave for images with `labels` (N,).

    The probabilities without it need no second look at the images: they are the same ones to the power of the temperature, made to
    sum to 1. A `report` has the figures of the given ones already. Raises `DataError` as `expected_calibration_error` does.
    """
    true, given = np.asarray(labels), np.asarray(probabilities)
    logs = log_probabilities(given)

    def measured(power: float) -> Measured:
        chances = given if power == 1 else softmax(logs, 1 / power)
        return Measured(
            calibration_error(true, chances),
            bootstrap_mean(log_losses(logs, true, 1 / power)),
            reliability_bins(true, chances),
            confidence_counts(chances),
        )

    known = report and Measured(report.ece, report.loss, report.reliability, confidence_counts(given))
    after = known or measured(1.0)
    return TemperatureEffect(temperature, fitted, after if temperature == 1 else measured(temperature), after)


def log_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithms of `probabilities` (N, K); one that underflowed to 0 counts as the least normal number of its type."""
    chances = np.asarray(probabilities)
    floating = chances if np.issubdtype(chances.dtype, np.floating) else chances.astype(np.float64)
    return np.log(np.maximum(floating, np.finfo(floating.dtype).tiny).astype(np.float64))
