from __future__ import annotations

from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from cnnkit.api.training import arithmetic
from cnnkit.api.training.arithmetic import cached_probe, cached_speed, choose_compilation
from cnnkit.api.training.job import TrainingJob
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import TrainConfig
from cnnkit.config.tiers import Tier
from cnnkit.engine import probe
from cnnkit.engine.compiled import CompileTimes, Work
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime
from cnnkit.speed.stopwatch import Meter

CPU = torch.device("cpu")
LARGER = Tier(images=600, model={"set": ["width=6", "middle=1"]}, optim={"batch_size": 32})


def settings(*larger: Tier, budget: str = "60s") -> TrainConfig:
    config = resolve({"model": {"arch": "fast-cnn", "set": ("width=4",)}, "optim": {"budget": budget, "precision": "fp32"}})
    return config.model_copy(update={"larger": larger})


def dry_job_at(image_folder: Any, monkeypatch: pytest.MonkeyPatch, speed: float, config: TrainConfig) -> TrainingJob:
    measured: list[Any] = []
    monkeypatch.setattr(arithmetic, "cached_speed", lambda *_, **facts: measured.append(facts) or speed)
    data = config.data.model_copy(update={"data": str(image_folder({"ants": 20, "bees": 20}))})
    job = prepare(config.model_copy(update={"data": data}), dry_run=True)
    assert len(measured) == bool(config.larger)
    return job


def test_a_fast_machine_takes_the_larger_tier_once_with_a_note(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dry_job_at(image_folder, monkeypatch, 1e6, settings(LARGER, budget="10m"))
    assert (job.header.options["width"], job.header.options["middle"], job.optim.batch_size) == (6, 1, 32)
    assert (job.config.larger, job.config.model.set, job.config.optim.budget) == ((), ("width=6", "middle=1"), 600)
    assert job.notes[0].startswith("--budget 600s is enough for about ")
    assert job.notes[0].endswith("so training uses --set width=6 --set middle=1 --batch-size 32")


def test_a_slow_machine_keeps_the_network_with_a_note(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dry_job_at(image_folder, monkeypatch, 1e-3, settings(LARGER))
    assert (job.header.options["width"], job.config.larger) == (4, ())
    assert "at 600 images or more it would use" in job.notes[0]
    assert not any("is enough for" in note for note in dry_job_at(image_folder, monkeypatch, 1e6, settings()).notes)


def test_a_tier_with_a_larger_image_size_decodes_larger_canvases(image_folder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(Tier(images=1, model={"image_size": 40}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"cache": "ram"})})
    job = dry_job_at(image_folder, monkeypatch, 1e6, config)
    assert job.header.preprocessing.image_size == 40
    assert job.batches.canvases.shape[2:] == (40, 40)


# --- the cache of the probes ------------------------------------------------------------------------------------------


@pytest.fixture
def probes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the probe by one that always finds bf16 on two replicas; return the list of the arguments of each."""
    made: list[tuple[Any, ...]] = []

    def fastest(*arguments: Any) -> Runtime:
        made.append(arguments)
        return Runtime(CPU, "bf16", channels_last=True, reason="2.0x as fast", replicas=2, threads=1)

    monkeypatch.setattr(probe, "_fastest_runtime", fastest)
    monkeypatch.setattr(probe, "_with_replicas", lambda *_: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    return made


def quiet() -> Meter:
    return Meter(cpu=lambda: 0.0, machine=lambda: 0.0)


def probed(folder: Path | None, model: nn.Module | None = None, meter: Meter | None = None, **changed: Any) -> Runtime:
    settings: dict[str, Any] = {
        "device": CPU,
        "precision": "auto",
        "image_shape": (3, 8, 8),
        "batch_size": 16,
        "deterministic": False,
    }
    return choose_runtime(model or nn.Linear(3, 2), cache=cached_probe(folder, meter or quiet()), **settings | changed)


def test_a_cached_probe_names_its_day(tmp_path: Path, probes: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = probed(tmp_path), probed(tmp_path)
    assert first == second == Runtime(CPU, "bf16", channels_last=True, reason="2.0x as fast", replicas=2, threads=1)
    assert len(probes) == 1

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2100, 1, 1, tzinfo=tz)

    day = datetime.now().astimezone().date()
    monkeypatch.setattr(arithmetic, "datetime", Later)
    assert probed(tmp_path).reason == f"2.0x as fast, on {day}"
    assert len(probes) == 1


@pytest.mark.parametrize("changed", [{"image_shape": (3, 9, 9)}, {"batch_size": 17}, {"model": nn.Linear(3, 3)}])
def test_another_training_gets_its_own_probe(tmp_path: Path, probes: list[tuple[Any, ...]], changed: dict[str, Any]) -> None:
    probed(tmp_path)
    probed(tmp_path, **changed)
    assert len(probes) == 2


def test_another_machine_gets_its_own_probe(tmp_path: Path, probes: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    probed(tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 96)
    probed(tmp_path)
    assert len(probes) == 2


@pytest.mark.parametrize(
    ("changed", "made"),
    [({"precision": "bf16"}, 0), ({"deterministic": True}, 0), ({"device": torch.device("cuda")}, 0)],
)
def test_fixed_arithmetic_is_not_cached(tmp_path: Path, probes: list[tuple[Any, ...]], changed: dict[str, Any], made: int) -> None:
    probed(tmp_path, **changed)
    assert len(probes) == made
    assert not list(tmp_path.iterdir())


def test_a_speed_is_cached_per_network_and_arithmetic(tmp_path: Path) -> None:
    speeds = iter([100.0, 200.0, 300.0, 400.0])

    def speed(width: int = 2, runtime: Runtime = Runtime(CPU), meter: Meter | None = None) -> float:  # noqa: B008 (frozen)
        shape: dict[str, Any] = {"image_shape": (3, 8, 8), "batch_size": 16}
        return cached_speed(tmp_path, nn.Linear(3, width), runtime, **shape, measure=lambda *_, **__: next(speeds), meter=meter or quiet())

    assert [speed(), speed(3), speed(), speed(3)] == [100, 200, 100, 200]
    seconds = iter([0.0, 1e9])
    busy = Meter(cpu=lambda: 0.0, machine=lambda: next(seconds))
    assert [speed(runtime=Runtime(CPU, "bf16"), meter=busy), speed(runtime=Runtime(CPU, "bf16"))] == [300, 400]


def test_without_a_store_every_training_is_probed(probes: list[tuple[Any, ...]]) -> None:
    probed(None)
    probed(None)
    assert len(probes) == 2


def test_a_probe_on_a_busy_machine_is_not_cached(tmp_path: Path, probes: list[tuple[Any, ...]]) -> None:
    seconds = iter([0.0, 1e9])
    probed(tmp_path, meter=Meter(cpu=lambda: 0.0, machine=lambda: next(seconds)))
    assert not list(tmp_path.iterdir())
    probed(tmp_path)
    probed(tmp_path)
    assert len(probes) == 2


# --- the compilation ---------------------------------------------------------------------------------------------------


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replace the trial of a compilation: it takes 30 s and halves the step of 1 s; return the list of the shapes and the work of each."""
    made: list[tuple[Any, ...]] = []

    def times(*arguments: Any) -> CompileTimes:
        made.append(arguments[3:])
        return CompileTimes(1.0, 0.5, 30.0)

    monkeypatch.setattr(arithmetic, "time_compilation", times)
    monkeypatch.setattr(arithmetic, "Meter", quiet)
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    return made


def test_a_compilation_that_pays_back_is_remembered_recorded_and_resumed(image_folder, small_config, compilations) -> None:
    config = small_config(image_folder(images=12), compile=True, epochs=60)
    made = prepare(config)
    assert compilations == [((12, 3, 32, 32), Work(120, 0, 1.0))]
    assert made.runtime.describe() == "cpu, fp32, compiled (--precision; saves 60 s for 30 s)"
    note = "--compile: compiling takes 30 s and saves 60 s of 120 s of training (a compiled step takes 0.50 of the time)"
    assert note in made.notes
    epochs = made.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    assert prepare(config).runtime == made.runtime
    resumed = resume()
    assert (resumed.runtime.compiled, resumed.runtime.reason) == (True, "as recorded")
    next(resumed.epochs())
    assert len(compilations) == 1


def test_a_compilation_that_does_not_pay_back_is_refused_with_both_figures(image_folder, small_config, compilations) -> None:
    made = prepare(small_config(image_folder(images=12), compile=True, epochs=20))
    assert len(compilations) == 1
    assert made.runtime.describe() == "cpu, fp32 (--precision; not compiled)"
    note = "--compile: not compiled, because compiling takes 30 s and saves 20 s of 40 s of training"
    assert f"{note} (a compiled step takes 0.50 of the time)" in made.notes


def test_a_compilation_that_did_not_end_is_remembered_for_the_same_work(image_folder, small_config, compilations, monkeypatch) -> None:
    data = image_folder(images=12)
    made: list[float] = []
    monkeypatch.setattr(arithmetic, "time_compilation", lambda *given: made.append(given[4].seconds) or CompileTimes(1.0, None, 20.0))
    for budget in (60, 60, 90):
        found = prepare(small_config(data, compile=True, budget=budget))
        assert not found.runtime.compiled
        assert any("compiling takes more than 20 s here" in note for note in found.notes)
    assert made == [60.0, 90.0]


def test_the_trial_counts_in_a_budget(image_folder, small_config, compilations, monkeypatch) -> None:
    ticks = iter([100.0, 130.0])
    monkeypatch.setattr(arithmetic, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    made = prepare(small_config(image_folder(images=12), compile=True, budget=90))
    assert compilations[0][1] == Work(2 * made.optim.epochs, 90.0, 1.0)
    assert (made.runtime.compiled, made.optim.budget) == (True, 60.0)
    assert "--budget 90s: the trial of --compile took 30.0 s of it" in made.notes


def test_frozen_epochs_and_small_images_cannot_be_compiled(image_folder, small_config, compilations) -> None:
    made = prepare(small_config(image_folder(images=12), compile=True, epochs=8, start_size=24))
    frozen = made.optim.model_copy(update={"freeze_epochs": 2})
    choose_compilation(made.config, frozen, made.model, made.runtime, made.batches, None)
    assert [work.share for _, work in compilations] == pytest.approx([0.4, 0.75 * 0.4])


def test_deterministic_and_dry_runs_compile_without_a_trial(image_folder, small_config, compilations) -> None:
    data = image_folder(images=12)
    assert prepare(small_config(data, compile=True, precision="auto", deterministic=True)).runtime.compiled
    assert prepare(small_config(data, compile=True), dry_run=True).runtime.compiled
    assert not prepare(small_config(data)).runtime.compiled
    assert compilations == []
