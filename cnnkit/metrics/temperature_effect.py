"""The effect of a model's temperature on new images: calibration error and loss without and with the temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnnkit.metrics.calibration import ReliabilityBin, calibration_error, confidence_counts, reliability_bins
from cnnkit.metrics.intervals import Estimate, bootstrap_mean
from cnnkit.metrics.temperature import Calibration, log_losses, softmax
from cnnkit.metrics.units import Units

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from cnnkit.metrics.classification import ClassificationReport


@dataclass(frozen=True)
class CalibrationFigures:
    """The calibration of probabilities on one split: `ece` in [0, 1] and `loss` in nats with intervals, and the reliability diagram.

    The diagram has `bins` and a `histogram`, which counts the images by confidence in equal parts of [0, 1].
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
    """The calibration of one split `before` (at temperature 1) and `after` the temperature.

    `fitted` is the stored calibration of the model; None for a model without one.
    """

    temperature: float
    fitted: Calibration | None
    before: CalibrationFigures
    after: CalibrationFigures

    @property
    def change(self) -> Literal["none", "fell", "rose", "unclear"]:
        """The change of the calibration error; it fell or rose only if the two intervals do not overlap."""
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
    units: Units | None = None,
) -> TemperatureEffect:
    """Return the effect of `temperature` on the `probabilities` (N, K), computed with it, of images with `labels` (N,).

    The probabilities at temperature 1 need no second pass over the images: they are the given probabilities to the power of the
    temperature, scaled to sum to 1. By default every image is a unit of its own. A `report` of the given
    probabilities saves their evaluation. Raises the same errors as `expected_calibration_error`.
    """
    true, given = np.asarray(labels), np.asarray(probabilities)
    logs = log_probabilities(given)
    of_images = units or Units.single(len(true))

    def figures(power: float) -> CalibrationFigures:
        probs = given if power == 1 else softmax(logs, 1 / power)
        return CalibrationFigures(
            calibration_error(true, probs, units=of_images),
            bootstrap_mean(log_losses(logs, true, 1 / power), units=of_images),
            reliability_bins(true, probs, units=of_images),
            confidence_counts(probs),
        )

    known = report and CalibrationFigures(report.ece, report.loss, report.reliability, confidence_counts(given))
    after = known or figures(1.0)
    return TemperatureEffect(temperature, fitted, after if temperature == 1 else figures(temperature), after)


def log_probabilities(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithms of `probabilities` (N, K); 0 counts as the smallest normal number of its type."""
    probs = np.asarray(probabilities)
    floating = probs if np.issubdtype(probs.dtype, np.floating) else probs.astype(np.float64)
    return np.log(np.maximum(floating, np.finfo(floating.dtype).tiny).astype(np.float64))
