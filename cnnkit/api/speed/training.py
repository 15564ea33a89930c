"""The speed of a training, in total and stage by stage.

`fit` itself runs the measured steps, on a source of batches that ends with the time of the stage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count, cycle

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnnkit.api.training.job import TrainingJob
from cnnkit.data.augment.augment import augment, draw_numbers
from cnnkit.data.augment.randomness import permutation
from cnnkit.data.epoch_plan import EpochPlan
from cnnkit.data.source import TRAIN, Record, Source
from cnnkit.data.staging import to_device
from cnnkit.data.store.pool import DecodingPool
from cnnkit.data.store.store import StoredRows
from cnnkit.data.store.stream import Canvases, StreamedCanvases, gather
from cnnkit.engine.fit import fit, initial_state
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime, choose_device
from cnnkit.engine.validation import validate
from cnnkit.speed.stopwatch import Meter, Stopwatch, synchronizer, time_portions
from cnnkit.speed.values import TRAINING_STAGES, StageSpeed, TrainingSpeed, Trial

Batch = tuple[Tensor, Tensor]
LOAD_IMAGES = 256  # read repeatedly in the stage ``load``, so that the disk cache holds them all
MAX_STEPS = 1_000_000  # of a stage: an hour has fewer
HARMLESS_LR = 1e-6  # keeps the loss on random images finite; the time of a step is the same at any rate
MIN_BATCH_SIZES = {"cpu": 64, "cuda": 512, "mps": 512}  # a larger batch is tried below this size
TRIAL_FACTOR = 4  # of the batch size in that trial


@dataclass(frozen=True)
class DeviceBatches:
    """A `BatchSource` of a few batches on the device."""

    batches: tuple[Batch, ...]

    @property
    def steps(self) -> int:
        """The number of batches per epoch."""
        return len(self.batches)

    def epoch(self, number: int, first: int = 0) -> Iterable[Batch]:
        """Return the same batches for every epoch."""
        del number
        return self.batches[first:]


@dataclass(frozen=True)
class TimedEpochs:
    """A `BatchSource` of one long epoch: it joins epochs until the time of `watch` is up."""

    epochs: Callable[[int], Iterable[Batch]]
    watch: Stopwatch
    clock: Callable[[], float]
    steps: int = MAX_STEPS

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches, and add the time that the caller waits for each to `watch`."""
        del first  # a benchmark has no earlier part
        with closing(batch for each in count(number) for batch in self.epochs(each)) as batches:
            while True:
                start = self.clock()
                batch = next(batches)
                self.watch.add_wait(self.clock() - start)
                yield batch
                if not self.watch.should_continue_after(len(batch[1])):  # the request for the next batch ends the work on this one
                    return


@dataclass(frozen=True)
class TrainingBench:
    """The benchmark of a training, which times every stage of `job` for about `seconds`; `source` holds its images."""

    job: TrainingJob
    source: Source
    seconds: float
    meter: Meter
    tell: Callable[[str], object]

    def measure(self) -> TrainingSpeed:
        """Time every stage; the training comes first, so that its peak memory contains no other stage."""
        job, spec = self.job, self.job.header.preprocessing
        stages = self.measure_steps()
        stages["load"], sample = self._time_loading()
        canvases = sample if isinstance(job.batches.canvases, StreamedCanvases) else job.batches.canvases
        rows = np.arange(len(sample)) if canvases is sample else job.batches.rows
        stages |= self._time_data_stages(canvases, rows)
        stages["validate"] = self._time_validation()
        return TrainingSpeed(
            arch=job.header.arch,
            data=self.source.name,
            images=len(job.batches.rows),
            image_size=spec.image_size,
            batch_size=job.batches.batch_size,
            device=job.runtime.device.type,
            runtime=job.runtime.describe(),
            cache=self._cache(),
            canvas_bytes=len(job.dataset.store.facts) * spec.channels * spec.image_size**2,
            interpolates=job.augmentation.affine,
            stages={name: stages[name] for name in TRAINING_STAGES},
            trials=tuple(self._trials()),
            spare_gpu=_spare_gpu(job.runtime.device),
        )

    def measure_steps(self) -> dict[str, StageSpeed]:
        """Time the training (``train``), then its step on tensors in memory (``step``)."""
        job = self.job
        return {
            "train": self._time_fit("train", job.batches.epoch),
            "step": self._time_step("step", job.model, job.runtime, job.batches.batch_size),
        }

    def _time_fit(
        self, name: str, epochs: Callable[[int], Iterable[Batch]], model: nn.Module | None = None, runtime: Runtime | None = None
    ) -> StageSpeed:
        """Time one long epoch of `fit` with all layers trained."""
        self.tell(f"timing {name}")
        job, model, runtime = self.job, model or self.job.model, runtime or self.job.runtime
        optim = job.optim.model_copy(update={"lr": HARMLESS_LR, "epochs": 1, "budget": 0.0, "freeze_epochs": 0})
        watch = Stopwatch(self.seconds, self.meter, synchronizer(runtime.device))
        spec = job.header.preprocessing
        image = torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device=runtime.device)
        val = DeviceBatches(((image, torch.zeros(1, dtype=torch.int64, device=runtime.device)),))
        state = initial_state(model, optim, job.config.stop, job.custom)
        classes = len(job.header.classes)
        feed = TimedEpochs(epochs, watch, self.meter.wall)
        next(iter(fit(model, feed, val, optim, runtime, state, num_classes=classes, class_weights=job.weights, custom=job.custom)))
        return watch.stage

    def _time_step(self, name: str, model: nn.Module, runtime: Runtime, batch_size: int) -> StageSpeed:
        """Time `fit` on random images on the device."""
        spec, classes = self.job.header.preprocessing, len(self.job.header.classes)
        random = torch.Generator().manual_seed(0)
        shape = (batch_size, spec.channels, spec.image_size, spec.image_size)
        pairs = [(torch.randn(shape, generator=random), torch.randint(classes, shape[:1], generator=random)) for _ in range(2)]
        batches = DeviceBatches(tuple((images.to(runtime.device), labels.to(runtime.device)) for images, labels in pairs))
        return self._time_fit(name, batches.epoch, model, runtime)

    def _time_loading(self) -> tuple[StageSpeed, NDArray[np.uint8]]:
        """Time reading and decoding in worker processes; return the speed and the canvases of the sample, (n, C, S, S)."""
        self.tell("timing load")
        records = self._sample()
        canvases: list[NDArray[np.uint8]] = []
        start = self.meter.wall()
        with (
            DecodingPool(self.source, (self.job.header.preprocessing,), self.job.config.data.workers, measured=False) as pool,
            closing(pool.blocks(cycle(records))) as blocks,
        ):
            for block in blocks:  # a first pass, at most `seconds`, starts the processes and fills the disk cache
                canvases.append(block.canvases[0])
                if sum(map(len, canvases)) >= len(records) or self.meter.wall() - start > self.seconds:
                    break
            stage = time_portions((len(block.facts) for block in blocks), self.seconds, self.meter)
        return stage, np.concatenate(canvases)

    def _sample(self) -> Sequence[Record]:
        """Return up to `LOAD_IMAGES` training images, spread over the train split."""
        chosen = self.job.dataset.of(TRAIN)
        paths = {sample.path for sample in chosen[:: max(1, len(chosen) // LOAD_IMAGES)][:LOAD_IMAGES]}
        return [record for record in self.source.records if record.path in paths]

    def _time_data_stages(self, canvases: Canvases, rows: NDArray[np.int64]) -> dict[str, StageSpeed]:
        """Time the three steps of `Batches` one by one: gathering canvases, augmenting and normalising them."""
        batches, device = self.job.batches, self.job.batches.device
        synchronize = synchronizer(device)
        parts = max(1, len(rows) // batches.batch_size)

        def gathered() -> Iterator[Tensor]:
            for number in count():
                order = rows[permutation(batches.seed, number, len(rows))]
                if batches.resident is not None:
                    plan = EpochPlan(order, torch.from_numpy(order), None, None)
                    yield from (part for part, _ in batches.resident.batches(plan, [len(part) for part in np.array_split(order, parts)]))
                    continue
                for part in gather(canvases, np.array_split(order, parts)):
                    yield to_device(torch.from_numpy(part), device)

        images = next(gathered())
        keys = np.arange(len(images))

        def augmented(number: int) -> Tensor:
            draws = torch.from_numpy(draw_numbers(batches.seed, number, keys, batches.extra)).to(device)
            return augment(images, draws, self.job.augmentation, batches.extra)

        augmented_images = augmented(0)
        work: dict[str, Iterable[int]] = {
            "gather": (len(part) for part in gathered()),
            "augment": (len(augmented(number)) for number in count()),
            "normalise": (len(batches.preprocess.normalise(augmented_images)) for _ in count()),
        }
        stages: dict[str, StageSpeed] = {}
        for name, portions in work.items():
            self.tell(f"timing {name}")
            stages[name] = time_portions(portions, self.seconds, self.meter, synchronize)
        return stages

    def _time_validation(self) -> StageSpeed:
        """Time repeated validation on val."""
        self.tell("timing validate")
        job = self.job
        watch = Stopwatch(self.seconds, self.meter, synchronizer(job.runtime.device))
        validate(job.model, TimedEpochs(job.val_batches.epoch, watch, self.meter.wall), job.runtime, len(job.header.classes))
        return watch.stage

    def _trials(self) -> Iterator[Trial]:
        """Time the step with settings that may be faster: precision auto instead of a fixed one, a larger batch if the batch is small."""
        job, config, device = self.job, self.job.config, self.job.runtime.device
        spec = job.header.preprocessing
        if config.optim.precision != "auto" and not config.run.deterministic:
            shape = (spec.channels, spec.image_size, spec.image_size)
            size = job.batches.batch_size
            best = choose_runtime(
                job.model,
                device=device,
                precision="auto",
                image_shape=shape,
                batch_size=size,
                deterministic=False,
                freeze_norm=config.optim.freeze_norm,
                clock=self.meter.wall,
            )
            best = best.with_compilation() if job.runtime.compiled else best
            if best.facts() != job.runtime.facts():
                flag = "--precision auto"
                yield Trial(flag, self._time_step(f"step with {flag}", best.prepare(copy.deepcopy(job.model)), best, size))
        larger = TRIAL_FACTOR * job.batches.batch_size
        if job.batches.batch_size < MIN_BATCH_SIZES[device.type] and larger <= len(job.batches.rows):
            flag = f"--batch-size {larger}"
            with suppress(torch.OutOfMemoryError):
                yield Trial(flag, self._time_step(f"step with {flag}", job.model, job.runtime, larger))

    def _cache(self) -> str:
        """Return the location of the canvases: ram, disk or none, as the values of ``--cache``."""
        if isinstance(self.job.batches.canvases, StreamedCanvases):
            return "none"
        return "disk" if isinstance(self.job.batches.canvases, np.memmap | StoredRows) else "ram"


def _spare_gpu(device: torch.device) -> str:
    """Return the type of a GPU that a training on `device` leaves idle; empty without one."""
    best = choose_device("auto")
    return best.type if device.type == "cpu" and best.type != "cpu" else ""
