"""The speed of a training, in total and stage by stage.

The steps are those of `fit` itself, fed by a source of batches that ends when its time is up: there is no second loop here.
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
from cnnkit.data.source import TRAIN, Record, Source
from cnnkit.data.store.pool import DecodingPool
from cnnkit.data.store.stream import StreamedCanvases, gather
from cnnkit.engine.fit import fit, initial_state
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime, choose_device
from cnnkit.engine.validation import validate
from cnnkit.speed.stopwatch import Meter, Stopwatch, synchronizer, time_portions
from cnnkit.speed.values import TRAINING_STAGES, StageSpeed, TrainingSpeed, Trial

Batch = tuple[Tensor, Tensor]
LOADED = 256  # files that are read over and over: none is read from a cold disk then, and the store is about this too
MOST_STEPS = 1_000_000  # of a stage: more than fit into an hour
HARMLESS_LR = 1e-6  # a step costs the same at any rate, and at this one no loss can diverge on random images
SMALL_BATCH = {"cpu": 64, "cuda": 512, "mps": 512}  # below, four times as large a batch is tried
LARGER = 4


@dataclass(frozen=True)
class Ready:
    """A `BatchSource` of batches that lie on the device."""

    batches: tuple[Batch, ...]

    @property
    def steps(self) -> int:
        """Batches per epoch."""
        return len(self.batches)

    def epoch(self, number: int) -> Iterable[Batch]:
        """Return the same batches every time."""
        del number
        return self.batches


@dataclass(frozen=True)
class Feed:
    """A `BatchSource` without end: epochs one after the other until the watch says that it is enough."""

    epochs: Callable[[int], Iterable[Batch]]
    watch: Stopwatch
    clock: Callable[[], float]
    steps: int = MOST_STEPS

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield batches, timing how long each was waited for."""
        with closing(batch for further in count(number) for batch in self.epochs(further)) as batches:
            while True:
                asked = self.clock()
                batch = next(batches)
                self.watch.add_wait(self.clock() - asked)
                yield batch
                if not self.watch.should_continue_after(len(batch[1])):  # the next request means that this batch is done
                    return


@dataclass(frozen=True)
class TrainingBench:
    """Times the stages of `job`, each for about `seconds`; `source` is where its images come from."""

    job: TrainingJob
    source: Source
    seconds: float
    meter: Meter
    tell: Callable[[str], object]

    def measure(self) -> TrainingSpeed:
        """Time every stage, the training first: its memory is then its own."""
        job, spec = self.job, self.job.header.preprocessing
        stages = self.turn()
        stages["load"], sample = self._load()
        canvases = sample if isinstance(job.batches.canvases, StreamedCanvases) else job.batches.canvases
        rows = np.arange(len(sample)) if canvases is sample else job.batches.rows
        stages |= self._between(canvases, rows)
        stages["validate"] = self._validate()
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

    def turn(self) -> dict[str, StageSpeed]:
        """Time the training, ``train``, and its step on tensors in memory, ``step``, one after the other."""
        job = self.job
        return {
            "train": self._fit("train", job.batches.epoch),
            "step": self._step("step", job.model, job.runtime, job.batches.batch_size),
        }

    def _fit(
        self, name: str, epochs: Callable[[int], Iterable[Batch]], model: nn.Module | None = None, runtime: Runtime | None = None
    ) -> StageSpeed:
        """Time one endless epoch of `fit`, all layers learning."""
        self.tell(f"timing {name}")
        job, model, runtime = self.job, model or self.job.model, runtime or self.job.runtime
        optim = job.optim.model_copy(update={"lr": HARMLESS_LR, "epochs": 1, "budget": 0.0, "freeze_epochs": 0})
        watch = Stopwatch(self.seconds, self.meter, synchronizer(runtime.device))
        spec = job.header.preprocessing
        image = torch.zeros(1, spec.channels, spec.image_size, spec.image_size, device=runtime.device)
        val = Ready(((image, torch.zeros(1, dtype=torch.int64, device=runtime.device)),))
        state = initial_state(model, optim, job.config.stop)
        classes = len(job.header.classes)
        feed = Feed(epochs, watch, self.meter.wall)
        next(iter(fit(model, feed, val, optim, runtime, state, num_classes=classes, class_weights=job.weights)))
        return watch.stage

    def _step(self, name: str, model: nn.Module, runtime: Runtime, batch_size: int) -> StageSpeed:
        """Time `fit` on random images that lie ready on the device."""
        spec, classes = self.job.header.preprocessing, len(self.job.header.classes)
        random = torch.Generator().manual_seed(0)
        shape = (batch_size, spec.channels, spec.image_size, spec.image_size)
        made = [(torch.randn(shape, generator=random), torch.randint(classes, shape[:1], generator=random)) for _ in range(2)]
        ready = Ready(tuple((images.to(runtime.device), labels.to(runtime.device)) for images, labels in made))
        return self._fit(name, ready.epoch, model, runtime)

    def _load(self) -> tuple[StageSpeed, NDArray[np.uint8]]:
        """Time reading and decoding in worker processes; also return the canvases of the files that were read, (n, C, S, S)."""
        self.tell("timing load")
        records = self._sample()
        canvases: list[NDArray[np.uint8]] = []
        began = self.meter.wall()
        with (
            DecodingPool(self.source, self.job.header.preprocessing, self.job.config.data.workers, measured=False) as pool,
            closing(pool.blocks(cycle(records))) as blocks,
        ):
            for block in blocks:  # once over all of them, if that is quick: the processes have started then, the files are warm
                assert block.canvases is not None  # noqa: S101 (a geometry was given)
                canvases.append(block.canvases)
                if sum(map(len, canvases)) >= len(records) or self.meter.wall() - began > self.seconds:
                    break
            stage = time_portions((len(block.facts) for block in blocks), self.seconds, self.meter)
        return stage, np.concatenate(canvases)

    def _sample(self) -> Sequence[Record]:
        """Up to `LOADED` training images, spread over all."""
        chosen = self.job.dataset.of(TRAIN)
        paths = {sample.path for sample in chosen[:: max(1, len(chosen) // LOADED)][:LOADED]}
        return [record for record in self.source.records if record.path in paths]

    def _between(self, canvases: NDArray[np.uint8] | StreamedCanvases, rows: NDArray[np.int64]) -> dict[str, StageSpeed]:
        """Time what `Batches` does with the canvases, one thing at a time."""
        batches, device = self.job.batches, self.job.batches.device
        settle = synchronizer(device)
        parts = max(1, len(rows) // batches.batch_size)

        def gathered() -> Iterator[Tensor]:
            for number in count():
                order = rows[permutation(batches.seed, number, len(rows))]
                for part in gather(canvases, np.array_split(order, parts)):
                    yield torch.from_numpy(part).to(device)

        images = next(gathered())
        keys = np.arange(len(images))

        def augmented(number: int) -> Tensor:
            draws = torch.from_numpy(draw_numbers(batches.seed, number, keys)).to(device)
            return augment(images, draws, self.job.augmentation)

        varied = augmented(0)
        work: dict[str, Iterable[int]] = {
            "gather": (len(part) for part in gathered()),
            "augment": (len(augmented(number)) for number in count()),
            "normalise": (len(batches.preprocess.normalise(varied)) for _ in count()),
        }
        stages: dict[str, StageSpeed] = {}
        for name, portions in work.items():
            self.tell(f"timing {name}")
            stages[name] = time_portions(portions, self.seconds, self.meter, settle)
        return stages

    def _validate(self) -> StageSpeed:
        """Time validation on the val images, over and over."""
        self.tell("timing validate")
        job = self.job
        watch = Stopwatch(self.seconds, self.meter, synchronizer(job.runtime.device))
        validate(job.model, Feed(job.val_batches.epoch, watch, self.meter.wall), job.runtime, len(job.header.classes))
        return watch.stage

    def _trials(self) -> Iterator[Trial]:
        """Time the step under settings that may be faster: another precision if one was forced, a larger batch if it is small."""
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
                compiled=job.runtime.compiled,
                clock=self.meter.wall,
            )
            if best.facts() != job.runtime.facts():
                flag = "--precision auto"
                yield Trial(flag, self._step(f"step with {flag}", best.prepare(copy.deepcopy(job.model)), best, size))
        larger = LARGER * job.batches.batch_size
        if job.batches.batch_size < SMALL_BATCH[device.type] and larger <= len(job.batches.rows):
            flag = f"--batch-size {larger}"
            with suppress(torch.OutOfMemoryError):
                yield Trial(flag, self._step(f"step with {flag}", job.model, job.runtime, larger))

    def _cache(self) -> str:
        """Where the canvases are."""
        if isinstance(self.job.batches.canvases, StreamedCanvases):
            return "none"
        return "disk" if isinstance(self.job.batches.canvases, np.memmap) else "ram"


def _spare_gpu(device: torch.device) -> str:
    """Name a GPU that a training on `device` leaves idle."""
    best = choose_device("auto")
    return best.type if device.type == "cpu" and best.type != "cpu" else ""
