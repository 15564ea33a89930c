from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnkit.metrics.abstention import Abstention
from cnnkit.metrics.conformal import LabelSets
from cnnkit.metrics.drift import Drift, FeatureShift, Outlier
from cnnkit.metrics.ood import ood_report
from cnnkit.metrics.selective import SelectiveReport, selective_report
from cnnkit.report.pictures.risk import plot_risk_coverage
from cnnkit.report.terminal.selective import (
    abstention_sentence,
    drift_sentence,
    label_sets_sentence,
    ood_sentence,
    outlier_sentence,
    risk_coverage_table,
)

RULE = Abstention(0.75, 0.02, 0.0195, 0.95, 0.56, 4936, 80, 8843, "val")


def report(n: int = 200, rule: Abstention | None = RULE) -> SelectiveReport:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=n)
    logits = rng.normal(size=(n, 3)) + 2 * np.eye(3)[labels]
    probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return selective_report(labels, probs, rule, LabelSets(0.1, 0.95, 500, "val") if rule else None)


def text(shown: object, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(shown)
    return file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_has_every_coverage_and_the_stored_threshold(width):
    found = report()
    lines = text(risk_coverage_table(found), width).splitlines()
    assert max(map(len, lines)) <= width
    for row in found.table:
        assert any(f"{100 * row.coverage:.1f} %" in line and f"{100 * row.risk.value:.1f} %" in line for line in lines)
    (own,) = [line for line in lines if line.strip().endswith("stored")]
    assert "0.750" in own
    shown = " ".join(" ".join(lines).split())
    assert "stored: the model's own threshold" in shown
    assert "label sets of coverage 95.0 %: " in shown


def test_a_model_without_rules_has_only_the_table():
    shown = text(risk_coverage_table(report(rule=None)))
    assert "stored" not in shown
    assert "label sets" not in shown
    assert set(report(rule=None).to_dict()) == {"risk_coverage"}


def test_a_threshold_that_accepts_no_image_has_a_row_without_risk():
    never = Abstention(1.0, 0.02, 0.0195, 0.95, 0.56, 4936, 80, 8843, "val")
    (own,) = [line for line in text(risk_coverage_table(report(rule=never))).splitlines() if line.strip().endswith("stored")]
    assert own.split()[:3] == ["0.0", "%", "0"]
    assert "nan" not in own


def test_the_sentences_of_rules_have_the_guarantee_and_the_images():
    assert abstention_sentence(RULE) == (
        "the model abstains if its top probability is below 0.7500; with 95 % confidence at most 2 % of its predictions are wrong. "
        "It accepted 56.0 % of 8,843 val images, and 80 of these 4,936 predictions were wrong (upper bound 1.95 %)"
    )
    assert abstention_sentence(Abstention(0.0, 0.02, 0.01, 0.95, 1.0, 200, 0, 200, "val")).startswith("the model accepts every image; with")
    assert label_sets_sentence(LabelSets(0.1, 0.95, 500, "val")) == (
        "the label set of an image holds the predicted class and every class of probability at least 0.1000; it holds the true class "
        "with a probability of at least 95 % (threshold from 500 val images)"
    )


def test_the_sentence_on_out_of_distribution_images_names_the_threshold():
    own, others = np.linspace(0.5, 1, 100), np.linspace(0.3, 0.8, 50)
    assert "of 50 out-of-distribution images at the model's threshold (probability ≥ 0.700, which accepts 60.0 % [" in (
        ood_sentence(ood_report(own, others, 0.7), "test")
    )
    assert "at the threshold that accepts 95.0 % of test" in ood_sentence(ood_report(own, others, None), "test")


def test_the_drift_warning_names_three_features_with_direction_distance_and_p():
    shifts = [FeatureShift(name, 0.9 - 0.1 * index, 1e-9 if index else 0.0042, 0.1, 0.6) for index, name in enumerate("abcde")]
    sentence = drift_sentence(Drift(300, 8843, "val", tuple(shifts)))
    assert sentence.startswith(
        "these 300 images look unlike the training images: a 0.10, usually 0.60 (distance 0.90 of 1, p = 0.0042); b 0.10"
    )
    assert "(distance 0.80 of 1, p < 0.0001)" in sentence
    assert " and 2 more. Probabilities and thresholds are only reliable for images like the 8,843 of val" in sentence


@pytest.mark.parametrize("n", [1, 5, 3000])
@pytest.mark.parametrize("rule", [RULE, None])
def test_the_curve_can_be_drawn_for_few_and_many_images(n, rule, tmp_path):
    plot_risk_coverage(report(n, rule), "test", tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        assert image.size[0] > 600


def test_the_sentence_on_outliers_names_the_image_if_there_are_several():
    dark = Outlier(1, "brightness", 0.02, 0.18, 0.81)
    assert outlier_sentence([Outlier(0, *list(vars(dark).values())[1:])], ["a.jpg"]) == (
        "this image is unlike the validation images: brightness 0.02, theirs 0.18 to 0.81. Its probability may be wrong"
    )
    assert outlier_sentence([dark], ["a.jpg", "b.jpg"]).startswith("1 of 2 images is unlike the validation images, such as b.jpg: b")
    assert outlier_sentence([dark, dark], ["a.jpg", "b.jpg"]).startswith("2 of 2 images are unlike")
