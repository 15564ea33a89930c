"""The values of a benchmark: measured speed and memory of a training and of model files, and the ratios between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import PurePath
from typing import Any

DATA_STAGES = ("gather", "augment", "normalise")  # between the store and the network, in this order
TRAINING_STAGES = ("load", *DATA_STAGES, "step", "train", "validate")


@dataclass(frozen=True)
class Memory:
    """Memory in bytes at the end of a stage, with the memory that earlier stages of the same process still hold.

    `peak_rss_bytes` is the peak RAM of this process, with shared pages and pages of mapped files. `pss_bytes` is the current memory of
    this process and its children, each shared page divided among its users (None except on Linux). `gpu_peak_bytes` is the peak memory
    of tensors on the GPU (None without a GPU).
    """

    peak_rss_bytes: int
    pss_bytes: int | None = None
    gpu_peak_bytes: int | None = None


@dataclass(frozen=True)
class StageSpeed:
    """The speed of one kind of work after a warm-up: `images` images in `seconds` of wall time.

    `cpu_seconds` belong to this process and its children. `wait_seconds` are the part of `seconds` in which the training loop waited
    for its next batch; 0 for other stages.
    """

    images: int
    seconds: float
    cpu_seconds: float
    memory: Memory
    wait_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images per second of wall time."""
        return self.images / self.seconds

    @property
    def cpu_seconds_per_1000_images(self) -> float:
        """CPU-seconds of all cores together for 1,000 images."""
        return 1000 * self.cpu_seconds / self.images

    def to_dict(self) -> dict[str, Any]:
        """Return the stage for JSON, units in the keys."""
        memory = asdict(self.memory)
        figures = {name: value for name, value in asdict(self).items() if name != "memory"}
        return {
            "images_per_second": self.images_per_second,
            "cpu_seconds_per_1000_images": self.cpu_seconds_per_1000_images,
            **figures,
            **memory,
        }


@dataclass(frozen=True)
class Latency:
    """Milliseconds from the stored bytes of one image to its probabilities with a loaded model: median, 95th and 99th percentile.

    `decode_p50_ms` is the median time of reading and decoding.
    """

    images: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    decode_p50_ms: float


@dataclass(frozen=True)
class Trial:
    """The training step with one changed setting, given as its flag: ``--batch-size 512``."""

    flag: str
    step: StageSpeed


@dataclass(frozen=True)
class TrainingSpeed:
    """The speed of a training, stage by stage (`stages` has the keys `TRAINING_STAGES`).

    `cache` is the storage of the canvases (disk, ram, none), `canvas_bytes` their size. `interpolates` tells whether the augmentation
    computes new pixels instead of moving them. `spare_gpu` names an unused GPU of this machine. `start_seconds` are those before the
    first step, by the keys `imports`, `gpu` (only with one), `images` and `network`.
    """

    arch: str
    data: str
    images: int
    image_size: int
    batch_size: int
    device: str
    runtime: str
    cache: str
    canvas_bytes: int
    interpolates: bool
    stages: Mapping[str, StageSpeed]
    trials: tuple[Trial, ...] = ()
    spare_gpu: str = ""
    start_seconds: Mapping[str, float] = field(default_factory=dict[str, float])

    @property
    def efficiency(self) -> float:
        """Speed of the training over the speed of its step alone, on tensors in memory."""
        return self.stages["train"].images_per_second / self.stages["step"].images_per_second

    @property
    def data_wait_share(self) -> float:
        """Share of the training's time in which the network waits for data, in [0, 1].

        On a CPU the share is measured. A GPU computes while the loop prepares the next batch, so its share is 1 minus the efficiency.
        """
        train = self.stages["train"]
        return train.wait_seconds / train.seconds if self.device == "cpu" else max(0.0, 1 - self.efficiency)

    def share(self, stage: str) -> float:
        """Return the time of `stage` alone over the time of the training, for the same images."""
        return self.stages["train"].images_per_second / self.stages[stage].images_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in {"stages", "trials", "start_seconds"}}
        return {
            **own,
            "start_seconds": dict(self.start_seconds),
            "efficiency": self.efficiency,
            "data_wait_share": self.data_wait_share,
            "stages": {name: self.stages[name].to_dict() for name in self.stages},
            "trials": [{"flag": trial.flag, "step": trial.step.to_dict()} for trial in self.trials],
        }


@dataclass(frozen=True)
class FileAccuracy:
    """The accuracy `value` of a file on `images` images of `split`, and the ends of its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float
    images: int
    split: str


@dataclass(frozen=True)
class ModelSpeed:
    """The speed of a model file: `predict` from stored images and `classify` from decoded images, in batches, and `latency` of one.

    `images` describes the images. `file` is the name that a user can type, empty for an untrained model that exists only for the
    benchmark. `size_bytes` is the size of the file, and `accuracy` that on images of its run, None without them.
    """

    format: str
    file: str
    images: str
    predict: StageSpeed
    classify: StageSpeed
    latency: Latency
    size_bytes: int = 0
    accuracy: FileAccuracy | None = None

    @property
    def name(self) -> str:
        """The format, and for other files than ``model.onnx`` the rest of the name: ``onnx int8`` for ``model-int8.onnx``."""
        stem = PurePath(self.file).stem.removeprefix("model").lstrip("-")
        return f"{self.format} {stem}" if self.format != "torch" and stem else self.format

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "format": self.format,
            "file": self.file,
            "images": self.images,
            "size_bytes": self.size_bytes,
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
            "stages": {"predict": self.predict.to_dict(), "classify": self.classify.to_dict()},
            "latency": asdict(self.latency),
        }


@dataclass(frozen=True)
class Benchmark:
    """The result of one ``cnnkit benchmark``: the training (None for model files alone) and each model file.

    `busy_share` is the share of the processors that other programs used during the benchmark.
    """

    machine: Mapping[str, str | int]
    seconds_per_stage: float
    training: TrainingSpeed | None
    models: tuple[ModelSpeed, ...]
    busy_share: float = 0.0
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, without the verdict."""
        return {
            "machine": dict(self.machine),
            "seconds_per_stage": self.seconds_per_stage,
            "busy_share": self.busy_share,
            "training": self.training.to_dict() if self.training else None,
            "models": [model.to_dict() for model in self.models],
            "notes": list(self.notes),
        }
