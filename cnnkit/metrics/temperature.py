"""The temperature of a trained model, fitted on val and kept only if it clearly lowers the loss and does not raise the ECE."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.errors import counted
from cnnkit.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, calibration_error, fit_temperature
from cnnkit.metrics.intervals import Estimate, bootstrap_mean
from cnnkit.metrics.units import Units

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# The standard deviation of log T is 0.15 to 0.24 with 50 images, 0.10 to 0.15 with 100 and 0.05 to 0.07 with 400 (simulated, 10
# classes, 66 to 82 % accuracy).
MIN_IMAGES = 100
DRAWS = 200  # of each bootstrap: keeps the time short, because each new best epoch is calibrated


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model on the `n` images of `split` (val, which also chose the epoch).

    `temperature` divides the logits. `ece_before` and `ece_after` (expected calibration error, in [0, 1]) and `loss_before` and
    `loss_after` (nats) are measured without and with the temperature. If the temperature stays 1, they are equal and `reason` tells why.
    """

    split: str
    n: int
    temperature: float
    ece_before: Estimate
    ece_after: Estimate
    loss_before: float
    loss_after: float
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the value for JSON."""
        return {**asdict(self), "ece_before": self.ece_before.to_dict(), "ece_after": self.ece_after.to_dict()}


def calibrate(logits: ArrayLike, labels: ArrayLike, split: str = "val", units: Units | None = None) -> Calibration | None:
    """Return the temperature for `logits` (N, K) and `labels` (N,) of `split` with its effect; None without an image.

    By default every image is a unit of its own. The temperature stays 1 with fewer than `MIN_IMAGES`
    units, if every image is right, because no image then speaks against certainty, and at the largest temperature that is searched,
    because the logits then tell nothing. It also stays 1 unless the 95 % interval of the change of the loss lies below 0, and if the
    calibration error rises. Images with a NaN or infinite logit are left out.
    """
    scores, true = np.asarray(logits), np.asarray(labels)
    usable = np.isfinite(scores).all(axis=1)
    kept = (units or Units.single(len(true))).of_rows(usable)
    scores, true = scores[usable], true[usable]
    if not len(true):
        return None
    ece_before = calibration_error(true, softmax(scores), draws=DRAWS, units=kept)
    temperature, reason = _chosen(scores, true, split, kept)
    ece_after = ece_before if temperature == 1 else calibration_error(true, softmax(scores, temperature), draws=DRAWS, units=kept)
    if ece_after.value > ece_before.value:
        rise = f"raises the calibration error from {100 * ece_before.value:.1f} to {100 * ece_after.value:.1f} %"
        reason = f"temperature {temperature:.2f} lowers the loss on {split}, but {rise}"
        temperature, ece_after = 1.0, ece_before
    loss_before, loss_after = (float(log_losses(scores, true, each).mean()) for each in (1.0, temperature))
    return Calibration(split, len(true), temperature, ece_before, ece_after, loss_before, loss_after, reason)


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return the probabilities (N, K) of finite `logits` (N, K) divided by `temperature`."""
    weights = np.exp(_below_zero(logits, temperature))
    return weights / weights.sum(axis=1, keepdims=True)


def log_losses(logits: NDArray[Any], labels: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    """Return -log p of the true class (N,), in nats, for finite `logits` (N, K) divided by `temperature`."""
    scores = _below_zero(logits, temperature)
    return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(len(labels)), labels]


def _chosen(logits: NDArray[Any], labels: NDArray[Any], split: str, units: Units) -> tuple[float, str]:
    """Return the temperature, and the reason if it stays 1."""
    n = len(labels)
    if units.count < MIN_IMAGES:
        of_units = "" if units.are_single else f" of {counted(units.count, 'unit')}"
        return 1.0, f"{split} has {counted(n)}{of_units}, and a temperature needs at least {MIN_IMAGES}"
    temperature = fit_temperature(logits, labels)
    if temperature == MIN_TEMPERATURE:
        return 1.0, f"the model is right on all {n} images of {split}, and a temperature needs mistakes"
    if temperature == MAX_TEMPERATURE:
        return 1.0, f"the loss on {split} falls up to temperature {MAX_TEMPERATURE:g}: the model is no better than chance there"
    change = bootstrap_mean(log_losses(logits, labels, temperature) - log_losses(logits, labels), draws=DRAWS, units=units)
    if change.high < 0:
        return temperature, ""
    return 1.0, f"temperature {temperature:.2f} does not clearly lower the loss on the {n} images of {split}"


def _below_zero(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    scores = logits.astype(np.float64) / temperature
    return scores - scores.max(axis=1, keepdims=True)
