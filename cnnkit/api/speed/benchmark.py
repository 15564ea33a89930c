"""Benchmark: what training and prediction cost on this machine, measured with the code that does the work."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cnnkit.api.inference.samples import run_samples
from cnnkit.api.inference.target import Target
from cnnkit.api.speed.model import measure_model
from cnnkit.api.speed.training import TrainingBench
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import recorded_config
from cnnkit.config.settings import TrainConfig
from cnnkit.data.source import VAL, Record, Source, open_source
from cnnkit.errors import ConfigError
from cnnkit.model.file import save_model
from cnnkit.registry import EXPORTERS, find
from cnnkit.run_dir import RunDir
from cnnkit.speed.stopwatch import MAX_BUSY_SHARE, Meter, OtherPrograms, cores
from cnnkit.speed.values import Benchmark, ModelSpeed, TrainingSpeed

UNTRAINED = "untrained.safetensors"


@dataclass(frozen=True)
class Bench:
    """How to measure: about `seconds` a stage, read from `meter`; `tell` hears what is being done."""

    seconds: float = 2.0
    meter: Meter = field(default_factory=Meter)
    tell: Callable[[str], object] = lambda _: None

    def training(self, config: TrainConfig) -> Benchmark:
        """Measure the training that ``cnnkit train`` with `config` would start, and prediction with its network, untrained.

        No run is written. Raises `CnnkitError` as `prepare` does.
        """
        others = OtherPrograms(self.meter)
        speed, model, notes = self._training(config, predict=True)
        return self._benchmark(others, speed, [model] if model else [], notes)

    def model(self, target: Target, *, data: str | None = None) -> Benchmark:
        """Measure a model file, on its run's images or those of `data`.

        Of a run its exported files are measured too and, unless there is other `data`, its training. Raises `CnnkitError` if
        the model or its images cannot be used.
        """
        run = target.run
        if data is None and run is None:
            raise ConfigError(f"{target.path} lies in no run directory, so its images are not known; name images with --data FOLDER")
        others = OtherPrograms(self.meter)
        if data is None and run is not None:
            samples = run_samples(run, None)
            source, records = samples.source, samples.records
        else:
            source = open_source(data or "")
            records = source.records
        whole = run is not None and target.path.suffix == ".safetensors"
        files = [target.path, *(_exported(run) if whole and run else ())]
        models = [self._model(file, source, records) for file in files]
        if not whole or run is None or data is not None:
            return self._benchmark(others, None, models, ())
        speed, _, notes = self._training(_training_of(run, target.path), predict=False)
        return self._benchmark(others, speed, models, notes)

    def _training(self, config: TrainConfig, *, predict: bool) -> tuple[TrainingSpeed, ModelSpeed | None, tuple[str, ...]]:
        self.tell("reading images")
        source = open_source(config.data.data, download=config.data.download, group_by=config.data.group_by)
        job = prepare(config, source=source, progress=self._progress, dry_run=True)
        speed = TrainingBench(job, source, self.seconds, self.meter, self.tell).measure()
        if not predict:
            return speed, None, job.notes
        paths = {sample.path for sample in job.dataset.of(VAL)}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / UNTRAINED
            save_model(file, job.model, job.header)
            model = self._model(file, source, [record for record in source.records if record.path in paths])
        return speed, replace(model, file=""), job.notes

    def _model(self, file: Path, source: Source, records: Sequence[Record]) -> ModelSpeed:
        return measure_model(file, source, records, seconds=self.seconds, meter=self.meter, tell=self.tell)

    def _progress(self, done: int, total: int) -> None:
        self.tell(f"reading images, {done:,} of {total:,}")

    def _benchmark(
        self, others: OtherPrograms, training: TrainingSpeed | None, models: Sequence[ModelSpeed], notes: Sequence[str]
    ) -> Benchmark:
        busy = others.share()
        too_low = f"other programs used {100 * busy:.0f} % of the processors meanwhile: without them the figures are higher"
        noted = (*notes, *([too_low] if busy > MAX_BUSY_SHARE else []))
        return Benchmark(_machine(), self.seconds, training, tuple(models), busy, noted)


def _exported(run: RunDir) -> list[Path]:
    """The exported files of a run."""
    suffixes = {f".{name}" for name in find(EXPORTERS)}
    return sorted(file for file in run.export.glob("*") if file.suffix in suffixes)


def _training_of(run: RunDir, model: Path) -> TrainConfig:
    """The settings of a run, to train as it did: where it began from published weights `model` serves, as nothing is downloaded."""
    config = recorded_config(run)
    here = config.data.model_copy(update={"download": False})
    weights = {} if config.model.weights == "none" else {"weights": str(model)}
    return config.model_copy(update={"data": here, "model": config.model.model_copy(update=weights)})


def _machine() -> dict[str, str | int]:
    """What the figures were measured on."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    system = f"{platform.system()} {platform.machine()}"
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {"system": system, "cores": cores(), "threads": torch.get_num_threads(), **gpu, **versions}
