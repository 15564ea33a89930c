"""The temperature a model is given at the end of a training: fitted on val, and kept only if it is clearly better than none."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnkit.metrics.calibration import COLDEST, calibration_error, fit_temperature
from cnnkit.metrics.intervals import Estimate, bootstrap_mean

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

# Images. Simulated, 10 classes, 66 to 82 % right, the standard deviation of log T is 0.15 to 0.24 at 50, 0.10 to 0.15 at 100 and
# 0.05 to 0.07 at 400 images.
FEWEST = 100
DRAWS = 200  # of each bootstrap: the best model of every epoch is calibrated, so this must cost no time that one would notice


@dataclass(frozen=True)
class Calibration:
    """What is known of a model's probabilities from the `n` images of `split` (val, which also chose the epoch).

    The logits are divided by `temperature`. `ece_before` and `ece_after` (expected calibration error, in [0, 1]) and `loss_before` and
    `loss_after` (nats) are those without and with it; they are equal where `reason` says why the temperature stays 1.
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
    """Return the temperature for `logits` (N, K) of the images of `split` with `labels` (N,), and what it does; None without an image.

    It stays 1 with fewer than `FEWEST` images, with every image right (nothing then speaks against any certainty), and unless the
    loss falls by an amount whose 95 % interval, over the same images, lies below 0. Images with a logit that is NaN or infinite
    are left out.
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
    """Return the temperature, and why it stays 1 if it does."""
    n = len(labels)
    if n < FEWEST:
        return 1.0, f"{split} has {n} image{'s' * (n != 1)}, and fewer than {FEWEST} do not tell a temperature"
    temperature = fit_temperature(logits, labels)
    if temperature == COLDEST:
        return 1.0, f"all {n} images of {split} are right, so nothing tells how sure the model may be"
    change = bootstrap_mean(log_losses(logits, labels, temperature) - log_losses(logits, labels), draws=DRAWS)
    if change.high < 0:
        return temperature, ""
    return 1.0, f"temperature {temperature:.2f} is not clearly better than none on the {n} images of {split}"


def _below_zero(logits: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    scores = logits.astype(np.float64) / temperature
    return scores - scores.max(axis=1, keepdims=True)
