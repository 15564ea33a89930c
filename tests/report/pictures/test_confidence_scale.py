from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from cnnkit.report.pictures.confidence_scale import is_confident, stretched, stretched_ticks, unstretched


@dataclass(frozen=True)
class Bin:
    count: int
    confidence: float


def test_each_nine_has_the_same_room_and_100_percent_is_on_the_axis() -> None:
    assert stretched([0.0, 0.9, 0.99]).tolist() == pytest.approx([0, 1, 2], abs=0.05)
    assert float(stretched(1.0)) == pytest.approx(3, abs=0.01)


def test_positions_and_probabilities_are_inverse() -> None:
    probabilities = np.array([0.0, 0.31, 0.9, 0.9995, 1.0])
    np.testing.assert_allclose(unstretched(stretched(probabilities)), probabilities, atol=1e-12)


@pytest.mark.parametrize(
    ("bins", "expected"),
    [
        ([Bin(10, 0.99), Bin(9, 0.5)], True),
        ([Bin(10, 0.99), Bin(10, 0.5)], False),
        ([Bin(10, 0.95)], False),
        ([], False),
    ],
)
def test_a_model_is_confident_if_most_images_are(bins: list[Bin], expected: bool) -> None:
    assert is_confident(bins) is expected


def test_labels_stand_apart_and_end_at_100_percent() -> None:
    assert stretched_ticks(0.85, 0.0) == [0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0]
    apart = np.diff(stretched(stretched_ticks(0.3, 0.15)))
    assert len(apart) >= 3
    assert apart.min() >= 0.15 * float(stretched(1.0) - stretched(0.3))
