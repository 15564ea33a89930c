from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from cnnkit.errors import DataError
from cnnkit.metrics.ood import auroc, ood_report
from cnnkit.metrics.proportion import wilson
from cnnkit.metrics.units import Units


@pytest.mark.parametrize("decimals", [1, 2, 8])
def test_the_area_equals_scikit_learns_with_and_without_ties(decimals):
    rng = np.random.default_rng(decimals)
    own, others = rng.normal(0.6, 0.2, 300).round(decimals), rng.normal(0.5, 0.2, 200).round(decimals)
    expected = roc_auc_score(np.repeat([1, 0], [300, 200]), np.concatenate([own, others]))
    assert auroc(own, others).value == pytest.approx(expected, abs=1e-12)


def test_the_interval_of_the_area_holds_the_truth_in_95_of_100_draws():
    truth = 0.7602499  # P(X > Y) of normals one standard deviation apart: Phi(1 / sqrt 2)
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        found = auroc(rng.normal(1, 1, 120), rng.normal(0, 1, 80))
        covered += found.low <= truth <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_the_report_uses_the_threshold_of_the_model():
    report = ood_report([0.9, 0.8, 0.7, 0.2], [0.95, 0.6, 0.1], threshold=0.7)
    assert (report.stored, report.threshold) == (True, 0.7)
    assert report.accepted == wilson(1, 3)
    assert report.kept == wilson(3, 4)
    assert report.to_dict()["auroc"]["value"] == pytest.approx(7 / 12)


def test_the_default_threshold_accepts_95_of_100_evaluated_images():
    own = np.arange(1, 101) / 100
    report = ood_report(own, [0.055, 0.06, 0.9], None)
    assert (report.stored, report.threshold) == (False, 0.06)
    assert (report.kept.value, report.accepted.value) == (0.95, pytest.approx(2 / 3))


def test_one_image_has_a_wide_interval_and_no_image_is_an_error():
    lone = ood_report([0.9, 0.8], [0.5], None).auroc
    assert (lone.value, lone.low, lone.high) == (1.0, pytest.approx(0.05, abs=0.01), 1.0)
    with pytest.raises(DataError, match="2 images of the model's classes and 0 out-of-distribution images: both must be at least 1"):
        ood_report([0.9, 0.8], [], None)


@pytest.mark.parametrize(("own", "others"), [(40, 60), (60, 40)])
def test_a_perfect_separation_has_the_interval_of_as_many_pairs_as_the_fewer_images(own, others):
    found = auroc(np.linspace(0.8, 0.9, own), np.linspace(0.1, 0.2, others))
    assert found == wilson(40, 40)
    assert auroc(np.linspace(0.1, 0.2, own), np.linspace(0.8, 0.9, others)) == wilson(0, 40)


def test_units_widen_the_interval_of_the_auroc():
    rng = np.random.default_rng(0)
    own, others = np.repeat(rng.normal(1, 1, 20), 5), rng.normal(0, 1, 400)
    units = Units.of([str(row // 5) for row in range(100)])
    wide, narrow = auroc(own, others, units=units), auroc(own, others)
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)
