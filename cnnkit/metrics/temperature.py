"""The temperature of a trained model, fitted on val and kept only if it clearly lowers the loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.calibration import MIN_TEMPERATURE, calibration_error, fit_temperature
from cnnkit.metrics.intervals import Estimate, bootstrap_mean

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
        return asdict(self)


def calibrate(logits: ArrayLike, labels: ArrayLike, split: str = "val") -> Calibration | None:
    """Return the temperature for `logits` (N, K) and `labels` (N,) of `split` with its effect; None without an image.

    The temperature stays 1 with fewer than `MIN_IMAGES` images and if every image is right, because no image then speaks against
    certainty. It also stays 1 unless the 95 % interval of the change of the loss lies below 0. Images with a NaN or infinite logit are
    left out.
    """
    scores, true = np.asarray(logits), np.asarray(labels)
    usable = np.isfinite(scores).all(axis=1)
    scores, true = scores[usable], true[usable]
    if not len(true):
        return None
    temperature, reason = _chosen(scores, true, split)
    before = softmax(scores)
    after = softmax(scores, temperature)
    ece_before = calibration_error(true, before, draws=DRAWS)
    ece_after = ece_before if temperature == 1 else calibration_error(true, after, draws=DRAWS)
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


def _chosen(logits: NDArray[Any], labels: NDArray[Any], split: str) -> tuple[float, str]:
    """Return the temperature, and the reason if it stays 1."""
    n = len(labels)
    if n < MIN_IMAGES:
        return 1.0, f"{split} has {n} image{'s' * (n != 1)}, and a temperature needs at least {MIN_IMAGES}"
    temperature = fit_temperature(logits, labels)
    if temperature == MIN_TEMPERATURE:
        return 1.0, f"the model is right on all {n} images of {split}, and a temperature needs mistakes"
    change = bootstrap_mean(log_losses(logits, labels, temperature) - log_losses(logits, labels), draws=DRAWS)
    if change.high < 0:
        return temperature, ""
    return 1.0, f"temperature {temperature:.2f} does not clearly lower the loss on the {n} images of {split}"


def _below_zero(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    scores = logits.astype(np.float64) / temperature
    return scores - scores.max(axis=1, keepdims=True)
