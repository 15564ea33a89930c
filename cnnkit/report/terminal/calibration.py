"""Sentences on the calibration of a model file and of an evaluation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cnnkit.report.terminal.numbers import percent, share_text

if TYPE_CHECKING:
    from cnnkit.metrics.temperature import Calibration
    from cnnkit.metrics.temperature_effect import TemperatureEffect

_CHANGES = {
    "fell": "clearly lower",
    "rose": "clearly higher: these images or their labels differ from val",
    "unclear": "not clearly different, the intervals overlap",
}


def calibration_line(temperature: float, calibration: Calibration | None) -> str:
    """Return a sentence on the calibration stored in a model file."""
    if calibration is None:
        reason = "the model file has no temperature" if temperature == 1 else f"temperature {temperature:.2f} of unknown origin"
        return f"probabilities not calibrated: {reason}"
    error = percent(calibration.ece_before.value)
    if calibration.reason:
        shown = "too few images for an ECE" if math.isnan(calibration.ece_before.value) else f"ECE {error} %"
        return f"probabilities not calibrated: {calibration.reason}; {shown}"
    after = percent(calibration.ece_after.value)
    return f"probabilities calibrated on {calibration.split}: temperature {temperature:.2f}, ECE {error} -> {after} %"


def effect_line(effect: TemperatureEffect) -> str:
    """Return a sentence on the effect of the temperature in an evaluation, with intervals and whether the change is clear."""
    if effect.change == "none":
        reason = effect.fitted.reason if effect.fitted else "no temperature was fitted"
        ece = "undefined, too few images" if math.isnan(effect.after.ece.value) else share_text(effect.after.ece)
        return f"calibration error (ECE) {ece}; temperature 1: {reason or 'the fitted temperature is 1'}"
    return (
        f"calibration error (ECE) {share_text(effect.before.ece)} without the temperature of {effect.temperature:.2f}, "
        f"{share_text(effect.after.ece)} with it: {_CHANGES[effect.change]}"
    )
