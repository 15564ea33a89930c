from __future__ import annotations

import json

import numpy as np
import pytest

from cnnkit.metrics.baselines import COLOUR_BASELINE, baseline
from cnnkit.metrics.proportion import wilson


def right(*runs: tuple[bool, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value) for value, count in runs])


def test_model_and_baseline_are_compared_image_by_image() -> None:
    found = baseline(
        COLOUR_BASELINE, "colours alone", right((True, 40), (False, 60)), right((True, 38), (False, 2), (True, 22), (False, 38)), 2000
    )
    assert found.accuracy == wilson(40, 100)
    assert found.difference.value == pytest.approx(0.2)
    assert 0 < found.difference.low < 0.2 < found.difference.high
    assert found.is_beaten
    written = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (written["only_model_right"], written["only_baseline_right"], written["trained_on"]) == (22, 2, 2000)
    assert written["mcnemar_p"] < 0.001


@pytest.mark.parametrize(("model_only", "baseline_only"), [(5, 0), (0, 5), (0, 0), (0, 30), (12, 8)])
def test_a_random_difference_or_a_better_baseline_is_not_beaten(model_only: int, baseline_only: int) -> None:
    both = (True, 10)
    simple = right(both, (False, model_only), (True, baseline_only))
    assert not baseline("majority", "always", simple, right(both, (True, model_only), (False, baseline_only))).is_beaten
