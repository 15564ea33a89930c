"""The contract tests of metrics, losses, optimizers and augmentations; `cnnkit.testing` gives them to the tests of plugins."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from cnnkit.architecture import Option, options_of, read_options
from cnnkit.errors import CheckFailedError, ConfigError
from cnnkit.extension.values import Metric


class ExtensionCheckError(CheckFailedError, AssertionError):
    """A metric, a loss, an optimizer or an augmentation that breaks the contract."""


def check_metric(metric: Metric, name: str = "metric") -> None:
    """Check that `metric` keeps the contract; the messages call it `name`.

    The check computes it with default options for 2 and 10 classes, for images of one class, and for one image. It tests the type and
    the bounds of the number, that the order of the images does not change it, and that the arrays stay as they are. Raises
    `ExtensionCheckError` (an `AssertionError`), which names the broken promise. Errors of the metric pass through.
    """
    keywords = _check_extension(metric, Metric, "compute", name)
    random = np.random.default_rng(0)
    for classes in (2, 10):
        labels = np.concatenate([np.arange(classes), random.integers(classes, size=50)])
        probabilities = random.dirichlet(np.ones(classes), size=len(labels)).astype(np.float32)
        case = f"for {classes} classes"
        value = _score(metric, keywords, labels, probabilities, name, case)
        if math.isnan(value):
            _refuse(name, f"is not defined {case}, although every class has an image")
        order = random.permutation(len(labels))
        if not math.isclose(_score(metric, keywords, labels[order], probabilities[order], name, case), value, rel_tol=1e-6, abs_tol=1e-9):
            _refuse(name, f"gives another number {case} if the images have another order")
        _score(metric, keywords, labels, np.eye(classes, dtype=np.float32)[labels], name, f"{case} and right predictions")
        _score(metric, keywords, np.zeros(5, np.int64), probabilities[:5], name, f"{case} and images of one class")
        _score(metric, keywords, labels[:1], probabilities[:1], name, f"{case} and one image")


def _score(metric: Metric, keywords: Mapping[str, Any], labels: Any, probabilities: Any, name: str, case: str) -> float:
    """Return the number that `metric` computes, checked; it gets arrays of its own, which must not change."""
    given = labels, probabilities.argmax(1), probabilities
    copies = tuple(array.copy() for array in given)
    found: Any = metric.compute(*copies, **keywords)  # a plugin may return anything
    if any((copy != array).any() for copy, array in zip(copies, given, strict=True)):
        _refuse(name, f"changes its arrays {case}")
    if isinstance(found, bool | np.bool_) or not isinstance(found, int | float | np.integer | np.floating):
        _refuse(name, f"returns a {type(found).__name__} {case}; expected one number")
    value, (low, high) = float(found), metric.bounds or (-math.inf, math.inf)
    if math.isinf(value) or value < low or value > high:
        _refuse(name, f"returns {value:g} {case}; expected a finite number{f' from {low:g} to {high:g}' if metric.bounds else ''}")
    return value


def _check_extension(value: Any, kind: type, role: str, name: str) -> dict[str, Any]:
    """Check the fields that all extensions have; return the default options of the function in the field `role`."""
    if not isinstance(value, kind):
        _refuse(name, f"is a {type(value).__name__}, not a cnnkit.{kind.__name__}")
    function: Callable[..., Any] = getattr(value, role)
    if not callable(function):
        _refuse(name, f"its {role} is a {type(function).__name__}, not a function")
    summary = getattr(value, "summary", "")
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        _refuse(name, "needs a summary, a text of one line")
    known = options_of(function, name, role)
    for option in known.values():
        if not _reads_back(option, known, name):
            _refuse(name, f"option {option.name!r} has type {option.type.__name__}, which cannot hold its default {option.default!r}")
    return {option.name: option.default for option in known.values()}


def _reads_back(option: Option, known: Mapping[str, Option], name: str) -> bool:
    """Return True if a flag can set `option` to its default."""
    try:
        return read_options(known, [str(option)], (name, name), flag="", example=str(option))[option.name] == option.default
    except ConfigError:
        return False


def _refuse(name: str, problem: str) -> NoReturn:
    raise ExtensionCheckError(f"{name}: {problem}")
