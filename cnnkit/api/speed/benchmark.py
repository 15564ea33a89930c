"""The benchmark of training and prediction on this machine, measured with the code of the commands."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from cnnkit.api.inference.samples import run_samples
from cnnkit.api.inference.target import Target
from cnnkit.api.speed.model import LabelledRecords, measure_model
from cnnkit.api.speed.training import TrainingBench
from cnnkit.api.training.images import load_images, open_training_source
from cnnkit.api.training.network import draw_up
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import recorded_config
from cnnkit.config.settings import TrainConfig
from cnnkit.data.shards.named_addresses import check_named
from cnnkit.data.source import VAL, Record, Source, open_source
from cnnkit.engine.runtime import choose_device, start_gpu
from cnnkit.errors import CnnkitError, ConfigError
from cnnkit.exporters.opening import is_exported
from cnnkit.model.file import save_model
from cnnkit.run_dir import RunDir
from cnnkit.speed.stopwatch import MAX_BUSY_SHARE, Meter, OtherPrograms, cores, process_age
from cnnkit.speed.values import Benchmark, ModelSpeed, TrainingSpeed

UNTRAINED_FILE = "untrained.safetensors"


@dataclass(frozen=True)
class Bench:
    """A benchmark that measures every stage for about `seconds` with the clocks of `meter`; `tell` gets the name of every stage."""

    seconds: float = 2.0
    meter: Meter = field(default_factory=Meter)
    tell: Callable[[str], object] = lambda _: None

    def training(self, config: TrainConfig) -> Benchmark:
        """Measure the training that ``cnnkit train`` starts with `config`, and prediction with its untrained network.

        Writes no run. Raises `CnnkitError` as `prepare` does.
        """
        others = OtherPrograms(self.meter)
        speed, model, notes = self._training(config, predict=True)
        return self._benchmark(others, speed, [model] if model else [], notes)

    def model(self, target: Target, *, data: str | None = None) -> Benchmark:
        """Measure a model file on the images of its run, or on `data`.

        For the model of a run, also measure the exported files and, without `data`, the training. Files of a run without `data` have
        their accuracy on val. An unusable exported file is a note. Raises `CnnkitError` for an unusable model or unusable images.
        """
        run = target.run
        if data is None and run is None:
            raise ConfigError(f"{target.path} lies in no run directory, so its images are unknown; name images with --data FOLDER")
        others = OtherPrograms(self.meter)
        if data is None and run is not None:
            samples = run_samples(run, None)
            source, records, labelled = samples.source, samples.records, _val_records(run)
        else:
            source = open_source(data or "")
            records, labelled = source.records, None
        is_run = run is not None and target.path.suffix == ".safetensors"
        models = [self._model(target.path, source, records, labelled)]
        damaged: list[str] = []
        for file in _exported_files(run) if is_run and run else ():
            try:
                models.append(self._model(file, source, records, labelled))
            except CnnkitError as error:
                damaged.append(f"{file} is left out: {error}")
        if not is_run or run is None or data is not None:
            return self._benchmark(others, None, models, damaged)
        speed, _, notes = self._training(_offline_config(run, target.path), predict=False)
        return self._benchmark(others, speed, models, (*damaged, *notes))

    def _training(self, config: TrainConfig, *, predict: bool) -> tuple[TrainingSpeed, ModelSpeed | None, tuple[str, ...]]:
        """Return the speed of the training, with `predict` that of its untrained network on val, and the notes of the preparation."""
        start = {"imports": process_age()}
        began = self.meter.wall()
        if gpu := start_gpu(choose_device(config.run.device)):
            self.tell("starting the GPU")
            gpu.join()
            start["gpu"] = self.meter.wall() - began
        self.tell("reading images")
        began = self.meter.wall()
        source = open_training_source(config.data)
        dataset = load_images(config, draw_up(config.model), source=source, progress=self._progress).dataset
        start["images"] = self.meter.wall() - began
        began = self.meter.wall()
        job = prepare(config, source=source, dataset=dataset, progress=self._progress, dry_run=True)
        start["network"] = self.meter.wall() - began
        speed = replace(TrainingBench(job, source, self.seconds, self.meter, self.tell).measure(), start_seconds=start)
        if not predict:
            return speed, None, job.notes
        paths = {sample.path for sample in job.dataset.of(VAL)}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / UNTRAINED_FILE
            save_model(file, job.model, job.header)
            model = self._model(file, source, [record for record in source.records if record.path in paths])
        return speed, replace(model, file=""), job.notes

    def _model(self, file: Path, source: Source, records: Sequence[Record], labelled: LabelledRecords | None = None) -> ModelSpeed:
        return measure_model(file, source, records, seconds=self.seconds, meter=self.meter, tell=self.tell, labelled=labelled)

    def _progress(self, done: int, total: int) -> None:
        self.tell(f"reading images, {done:,} of {total:,}")

    def _benchmark(
        self, others: OtherPrograms, training: TrainingSpeed | None, models: Sequence[ModelSpeed], notes: Sequence[str]
    ) -> Benchmark:
        busy = others.share()
        busy_note = f"other programs used {100 * busy:.0f} % of the processors during the benchmark; without them the figures are higher"
        all_notes = (*notes, *([busy_note] if busy > MAX_BUSY_SHARE else []))
        return Benchmark(_machine(), self.seconds, training, tuple(models), busy, all_notes)


def _val_records(run: RunDir) -> LabelledRecords | None:
    """Return the images of val of `run`; None without any. Test stays for the evaluation of the file that is chosen here."""
    if all(row["split"] != VAL for row in run.read_split()):
        return None
    samples = run_samples(run, VAL)
    return LabelledRecords(VAL, samples.records, samples.units)


def _exported_files(run: RunDir) -> list[Path]:
    """Return the exported files of `run`."""
    return sorted(filter(is_exported, run.export.glob("*")))


def _offline_config(run: RunDir, model: Path) -> TrainConfig:
    """Return the settings of `run` without downloads: the weights of `model` replace the initial weights of the run."""
    record = run.read_record()
    check_named(record.data.location, run.path)
    config = recorded_config(run, record)
    local_data = config.data.model_copy(update={"download": False})
    weights = {} if config.model.weights == "none" else {"weights": str(model)}
    return config.model_copy(update={"data": local_data, "model": config.model.model_copy(update=weights)})


def _machine() -> dict[str, str | int]:
    """Return the facts of the machine: system, cores, threads, GPU and versions."""
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    system = f"{platform.system()} {platform.machine()}"
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {"system": system, "cores": cores(), "threads": torch.get_num_threads(), **gpu, **versions}
