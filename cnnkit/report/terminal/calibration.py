"""How far probabilities can be believed, in a line: of a model by what its file says, and of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnnkit.report.terminal.numbers import percent, share_text

if TYPE_CHECKING:
    from cnnkit.metrics.temperature import Calibration
    from cnnkit.metrics.temperature_effect import TemperatureEffect

_CHANGES = {
    "fell": "clearly lower",
    "rose": "clearly higher: these images are unlike those of val, or their labels are",
    "unclear": "not clearly different, the intervals overlap",
}


def calibration_line(temperature: float, calibration: Calibration | None) -> str:
    """Return what a model file says of its probabilities."""
    if calibration is None:
        what = "its file tells no temperature" if temperature == 1 else f"temperature {temperature:.2f}, of unknown origin"
        return f"probabilities not calibrated: {what}"
    error = percent(calibration.ece_before.value)
    if calibration.reason:
        return f"probabilities not calibrated: {calibration.reason}; ECE {error} %"
    became = percent(calibration.ece_after.value)
    return f"probabilities calibrated on {calibration.split}: temperature {temperature:.2f}, ECE {error} -> {became} %"


def effect_line(effect: TemperatureEffect) -> str:
    """Return what the temperature did on the images of an evaluation, with intervals, and whether that is clear."""
    if effect.change == "none":
        reason = effect.fitted.reason if effect.fitted else "none was fitted"
        return f"calibration error (ECE) {share_text(effect.after.ece)}; temperature 1: {reason or 'the best is none'}"
    return (
        f"calibration error (ECE) {share_text(effect.before.ece)} without the temperature of {effect.temperature:.2f}, "
        f"{share_text(effect.after.ece)} with it: {_CHANGES[effect.change]}"
    )
