from __future__ import annotations

from dataclasses import replace

import pytest

import cnnkit
from cnnkit.errors import CheckFailedError
from cnnkit.metrics.intervals import Estimate


def test_min_accuracy_names_the_measured_accuracy_and_the_limit(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = Estimate(0.5, 0.2, 0.8)
    found = replace(found, report=replace(found.report, accuracy=accuracy))
    with pytest.raises(CheckFailedError) as missed:
        found.require_accuracy(0.9)
    measured = "the accuracy is 0.5000 (95 % interval 0.2000 to 0.8000, 9 test images)"
    assert str(missed.value) == f"{measured}; --min-accuracy asks for at least 0.9"
    assert missed.value.exit_code == 1
    assert found.require_accuracy(0.1) == f"{measured}; --min-accuracy 0.1 is met"
    assert found.require_accuracy(0.5).endswith("is met, but the interval begins below it: other images may give less")


def test_an_evaluation_is_short_in_a_shell_and_a_table_in_a_notebook(trained):
    found = cnnkit.evaluate(trained.run)
    accuracy = found.report.accuracy
    summary = f"test: {found.report.n} images, 3 classes, accuracy {accuracy.value:.4f} ({accuracy.low:.4f} to {accuracy.high:.4f})"
    assert repr(found).startswith(f"Evaluation('{trained.run}/best.safetensors', {summary}, loss ")
    assert repr(found).endswith(f", files '{trained.run}/eval/test')")
    assert repr(found.report).startswith(f"ClassificationReport({summary}")
    assert f"<caption>{found.report.n} test images, 3 classes</caption>" in found._repr_html_()
    assert f"<td>accuracy</td><td>{100 * accuracy.value:.1f} %</td>" in found._repr_html_()
