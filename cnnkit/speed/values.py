"""How fast a training and a model are on this machine, as values: what was measured, and what follows from it by division."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

DATA_STAGES = ("gather", "augment", "normalise")  # what comes between the store and the network, in this order
TRAINING_STAGES = ("load", *DATA_STAGES, "step", "train", "validate")


@dataclass(frozen=True)
class Memory:
    """Memory in bytes when a stage ended, so what earlier stages of the same process left is in it.

    `peak_rss_bytes` is the most this process has ever had in RAM, shared pages and pages of mapped files included.
    `pss_bytes` is what this process and its children have now, each shared page divided by its users (None where the system
    does not tell: only Linux does). `gpu_peak_bytes` is the most that tensors took on the GPU (None without one).
    """

    peak_rss_bytes: int
    pss_bytes: int | None = None
    gpu_peak_bytes: int | None = None


@dataclass(frozen=True)
class Stage:
    """One kind of work, timed after a warm-up: so many images in `seconds` of the clock.

    `cpu_seconds` are those of this process and its children. `wait_seconds` are the part of `seconds` in which the training
    loop waited for its next batch; 0 where nothing is waited for.
    """

    images: int
    seconds: float
    cpu_seconds: float
    memory: Memory
    wait_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images per second of the clock."""
        return self.images / self.seconds

    @property
    def cpu_seconds_per_1000_images(self) -> float:
        """CPU-seconds, of all cores together, that 1,000 images cost."""
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
    """Milliseconds from the stored bytes of one image to its probabilities, the model being loaded; medians and 95th percentile.

    `decode_p50_ms` is the median of the part before the model, reading and decoding.
    """

    images: int
    p50_ms: float
    p95_ms: float
    decode_p50_ms: float


@dataclass(frozen=True)
class Trial:
    """The training step once more with one setting changed, given as the flag that changes it: ``--batch-size 512``."""

    flag: str
    step: Stage


@dataclass(frozen=True)
class TrainingSpeed:
    """A training, stage by stage (`stages` has the keys `TRAINING_STAGES`).

    `cache` says where canvases are kept (disk, ram, none) and `canvas_bytes` how much room they take or would take.
    `interpolates` tells whether the augmentation computes new pixels or only moves them. `spare_gpu` names a GPU that is here
    and not used.
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
    stages: Mapping[str, Stage]
    trials: tuple[Trial, ...] = ()
    spare_gpu: str = ""

    @property
    def efficiency(self) -> float:
        """Images per second of the training over those of its step alone, on tensors in memory."""
        return self.stages["train"].images_per_second / self.stages["step"].images_per_second

    @property
    def data_wait_share(self) -> float:
        """Share of the training's time in which the network has nothing to compute, in [0, 1].

        On a CPU it is measured. A GPU computes while the loop prepares the next batch, so there it is what the training is
        slower than its step alone.
        """
        train = self.stages["train"]
        return train.wait_seconds / train.seconds if self.device == "cpu" else max(0.0, 1 - self.efficiency)

    def share(self, stage: str) -> float:
        """Time of `stage` alone over the time of the training, for the same images."""
        return self.stages["train"].images_per_second / self.stages[stage].images_per_second

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        own = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in {"stages", "trials"}}
        return {
            **own,
            "efficiency": self.efficiency,
            "data_wait_share": self.data_wait_share,
            "stages": {name: self.stages[name].to_dict() for name in self.stages},
            "trials": [{"flag": trial.flag, "step": trial.step.to_dict()} for trial in self.trials],
        }


@dataclass(frozen=True)
class ModelSpeed:
    """A model file: `predict` from stored images, `classify` from decoded ones, both in batches, and one image at a time.

    `images` says which images were taken; `file` is as the user may type it, empty for a model that was made only to be
    measured.
    """

    format: str
    file: str
    images: str
    predict: Stage
    classify: Stage
    latency: Latency

    def to_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        stages = {"predict": self.predict.to_dict(), "classify": self.classify.to_dict()}
        return {"format": self.format, "file": self.file, "images": self.images, "stages": stages, "latency": asdict(self.latency)}


@dataclass(frozen=True)
class Benchmark:
    """Everything one ``cnnkit benchmark`` measured: the training (None for a lone model file) and each model file.

    `busy_share` is the share of the processors that other programs used meanwhile.
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
