from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

from cnnkit.engine.early_stopping import EarlyStopping


def follow(stopping: EarlyStopping, values: list[float]) -> list[bool]:
    return [stopping.update(epoch, value) for epoch, value in enumerate(values, stopping.best_epoch + stopping.waited + 1)]


@pytest.mark.parametrize(
    ("monitor", "values", "best"),
    [
        ("val_loss", [3, 2, 2.5, 1], [True, True, False, True]),
        ("val_accuracy", [0.3, 0.2, 0.4, 0.35], [True, False, True, False]),
        ("val_macro_f1", [0.1, 0.2], [True, True]),
    ],
)
def test_lower_losses_and_higher_scores_are_better(monitor: str, values: list[float], best: list[bool]) -> None:
    assert follow(EarlyStopping(monitor, 3), values) == best


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_a_tie_is_never_best(monitor: str) -> None:
    stopping = EarlyStopping(monitor, 3)
    assert follow(stopping, [0.5, 0.5, 0.5]) == [True, False, False]
    assert (stopping.best_epoch, stopping.waited) == (1, 2)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_a_value_that_is_not_finite_is_never_best(monitor: str, value: float) -> None:
    stopping = EarlyStopping(monitor, 5)
    assert follow(stopping, [value, 0.5, value]) == [False, True, False]
    assert (stopping.best_epoch, stopping.best_value, stopping.waited) == (2, 0.5, 1)


def test_an_improvement_must_exceed_min_delta() -> None:
    stopping = EarlyStopping("val_loss", 5, min_delta=0.25)
    assert follow(stopping, [2.0, 1.75, 1.74, 1.5, 1.4]) == [True, False, True, False, True]
    assert EarlyStopping("val_accuracy", 5, min_delta=0.25).update(1, 0.0)  # the first is always the best


def test_min_delta_counts_from_the_best_and_not_from_the_last() -> None:
    """Small steps add up: a slow descent becomes an improvement."""
    assert follow(EarlyStopping("val_loss", 5, min_delta=0.25), [1.0, 0.9, 0.8, 0.7]) == [True, False, False, True]


def test_patience_counts_the_epochs_without_a_better_value() -> None:
    stopping = EarlyStopping("val_loss", 2)
    for epoch, (value, exhausted) in enumerate([(3.0, False), (4.0, False), (2.0, False), (2.0, False), (5.0, True)], 1):
        assert not stopping.exhausted
        stopping.update(epoch, value)
        assert stopping.exhausted is exhausted
    assert (stopping.best_epoch, stopping.best_value) == (3, 2.0)


def test_patience_zero_never_stops() -> None:
    stopping = EarlyStopping("val_loss", 0)
    follow(stopping, [1.0] * 1000)
    assert not stopping.exhausted


def test_nan_from_the_start_runs_out_of_patience() -> None:
    stopping = EarlyStopping("val_loss", 3)
    follow(stopping, [math.nan] * 3)
    assert stopping.exhausted
    assert stopping.best_epoch == 0


def test_the_state_is_restored_from_plain_values() -> None:
    stopping = EarlyStopping("val_accuracy", 4, 0.01)
    follow(stopping, [0.5, 0.4])
    restored = EarlyStopping(**json.loads(json.dumps(stopping.to_dict())))
    assert restored == stopping
    assert [restored.update(3, 0.6), stopping.update(3, 0.6)] == [True, True]
    assert restored == stopping


def test_early_stopping_imports_neither_torch_nor_numpy() -> None:
    program = "import sys, cnnkit.engine.early_stopping; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
