"""The page of the case study has the tables that its results make, and the arithmetic of these tables is right."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("case_study_run", DOCS / "case-study" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a frozen dataclass looks its module up
    spec.loader.exec_module(module)
    return module


def row(seed: int, flags: list[str], train: float, val: float, losses: list[float]) -> dict[str, Any]:
    history = [{"train_accuracy": 0.75, "val_accuracy": 1 - loss, "val_loss": loss} for loss in losses]
    scores = {"train": {"value": train}, "val": {"value": val}, "test": {"value": val}}
    return {
        "section": "gap", "data": "cifar10", "arch": "custom-cnn", "flags": flags, "seed": seed, "failed": "", "cpu": 36.0,
        "history": history, **scores,
    }  # fmt: skip


def test_the_page_has_the_tables_of_its_results(run: ModuleType) -> None:
    text = (DOCS / "case-study.md").read_text("utf-8")
    assert text.count("<!-- table: ") == len(run.TABLES)
    assert run.page(text, json.loads(run.RESULTS.read_text("utf-8"))) == text


def test_every_training_of_the_plan_has_a_key_of_its_own(run: ModuleType) -> None:
    jobs = run.plan(run.SMALL, 3)
    assert len({job.key for job in jobs}) == len(jobs)
    assert {job.seed for job in jobs if job.section == "gap"} == {0, 1, 2}
    assert {job.seed for job in jobs if job.section != "gap"} == {0}


def test_a_gap_is_compared_with_that_of_the_same_seed(run: ModuleType) -> None:
    plain, both = ["--augment", "none", "--set", "dropout=0"], ["--set", "dropout=0.5"]
    rows = [row(seed, plain, 0.9, 0.5 + seed / 10, [0.5]) for seed in (0, 1)]
    rows += [row(seed, ["--augment", "none", "--set", "dropout=0.5"], 0.8, 0.5, [0.5]) for seed in (0, 1)]
    rows += [row(seed, ["--set", "dropout=0"], 0.8, 0.6, [0.5]) for seed in (0, 1)]
    rows += [row(seed, both, 0.7, 0.6 + seed / 10, [0.5]) for seed in (0, 1)]
    table = run.intervals({"rows": rows})
    assert "| cifar10 | both | 30.0 (30.0 to 30.0) | 0.0 (0.0 to 0.0) | 0.00 (0.00 to 0.00) | 10.0 (10.0 to 10.0) |" in table


def test_early_stopping_counts_epochs_that_are_not_better(run: ModuleType) -> None:
    losses = [0.5, 0.4, 0.6, 0.6, 0.6, 0.6, 0.6, 0.3, 0.2, 0.9]
    assert run._stopped([{"val_loss": loss} for loss in losses]) == 7
    assert run._stopped([{"val_loss": loss} for loss in losses[:3]]) == 3
    results = {"rows": [{**row(0, [], 0.9, 0.5, losses), "section": "stopping"}]}
    assert run.stopping(results).splitlines()[-1] == "| cifar10 | 30 % | 0.200 | 20.0 | 50.0 |"


def test_a_rate_with_which_training_fails_is_counted(run: ModuleType) -> None:
    rows = [
        {
            **row(seed, ["--lr", rate, "--patience", "0"], 0.5, 0.4, [0.5]),
            "section": "rates",
            "failed": "nan" if rate == "1e-2" and seed else "",
        }
        for seed in (0, 1)
        for rate in run.RATES
    ]
    table = run.rates({"rows": rows, "suggested": {"custom-cnn": None}})
    assert table.splitlines()[-1] == "| custom-cnn (4 layers) | 40.0 ± 0.0 | 40.0 ± 0.0 | 40.0 ± 0.0 | 40.0 ± 0.0 | 1 of 2 failed | none |"
