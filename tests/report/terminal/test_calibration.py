from __future__ import annotations

from dataclasses import replace

from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature import Calibration
from cnnkit.metrics.temperature_effect import CalibrationFigures, TemperatureEffect
from cnnkit.report.terminal.calibration import calibration_line, effect_line

HIGH, LOW = Estimate(0.0412, 0.035, 0.048), Estimate(0.012, 0.007, 0.017)
FITTED = Calibration("val", 5000, 1.3712, HIGH, LOW, 0.41, 0.38)
UNCHANGED = replace(FITTED, temperature=1.0, ece_after=HIGH, reason="val has 7 images, and a temperature needs at least 100")


def effect(before: Estimate, after: Estimate, temperature: float = 1.3712, fitted: Calibration | None = FITTED) -> TemperatureEffect:
    parts = [CalibrationFigures(ece, LOW, (), ()) for ece in (before, after)]
    return TemperatureEffect(temperature, fitted, *parts)


def test_the_line_of_a_model_file() -> None:
    assert calibration_line(1.3712, FITTED) == "probabilities calibrated on val: temperature 1.37, ECE 4.1 -> 1.2 %"
    expected = "probabilities not calibrated: val has 7 images, and a temperature needs at least 100; ECE 4.1 %"
    assert calibration_line(1.0, UNCHANGED) == expected
    assert calibration_line(1.0, None) == "probabilities not calibrated: the model file has no temperature"
    assert calibration_line(1.7, None) == "probabilities not calibrated: temperature 1.70 of unknown origin"


def test_the_line_of_an_evaluation() -> None:
    line = "calibration error (ECE) 4.1 % [3.5, 4.8] without the temperature of 1.37, 1.2 % [0.7, 1.7] with it: "
    assert effect_line(effect(HIGH, LOW)) == f"{line}clearly lower"
    overlapping = Estimate(0.012, 0.007, 0.036)
    assert effect_line(effect(HIGH, overlapping)).endswith("1.2 % [0.7, 3.6] with it: not clearly different, the intervals overlap")
    assert "with it: clearly higher: these images or their labels differ from val" in effect_line(effect(LOW, HIGH))


def test_the_line_of_an_evaluation_without_a_temperature_has_the_reason() -> None:
    assert effect_line(effect(HIGH, HIGH, 1.0, UNCHANGED)) == f"calibration error (ECE) 4.1 % [3.5, 4.8]; temperature 1: {UNCHANGED.reason}"
    assert (
        effect_line(effect(HIGH, HIGH, 1.0, None)) == "calibration error (ECE) 4.1 % [3.5, 4.8]; temperature 1: no temperature was fitted"
    )
