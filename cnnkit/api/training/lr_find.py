"""The command ``lr-find``: a range test of the learning rate on a prepared training."""

from __future__ import annotations

from dataclasses import dataclass

from cnnkit.api.training.auto import in_images
from cnnkit.api.training.prepare import prepare
from cnnkit.config.settings import OptimConfig, TrainConfig
from cnnkit.data.progress import Progress
from cnnkit.engine.lr_range import DEFAULT_STEPS, MIN_STEPS, RangeTest, range_test
from cnnkit.errors import ConfigError


@dataclass(frozen=True)
class LrFinding:
    """A range test and its conditions: `images` per epoch, number of `parameters`, description of the `runtime`.

    `optim` is the configuration of the test, which ignores its `lr` and schedule. `bad` lists the unreadable images.
    """

    test: RangeTest
    arch: str
    image_size: int
    images: int
    parameters: int
    runtime: str
    optim: OptimConfig
    notes: tuple[str, ...]
    bad: tuple[tuple[str, str], ...]


def find_lr(config: TrainConfig, *, steps: int | None = None, progress: Progress | None = None) -> LrFinding:
    """Prepare the training of `config` and try `steps` learning rates (None: `DEFAULT_STEPS`) on a copy of its network; write nothing.

    `progress(done, total)` counts the images that are read, then the images that are trained on. Raises `ConfigError` for fewer than
    `MIN_STEPS` steps and `CnnkitError` as `prepare` does. A test without a suggestion is returned.
    """
    if steps is not None and steps < MIN_STEPS:
        raise ConfigError(
            f"`--steps` (={steps}) must be at least {MIN_STEPS}: every step tries one learning rate; type --steps {DEFAULT_STEPS}"
        )
    job = prepare(config, progress=progress, dry_run=True, fit_head=True)
    test = range_test(
        job.model,
        job.batches,
        job.optim,
        job.runtime,
        steps=steps or DEFAULT_STEPS,
        class_weights=job.weights,
        custom=job.custom,
        seed=job.config.run.seed,
        progress=in_images(progress, job.batches, job.optim.accumulate),
    )
    return LrFinding(
        test=test,
        arch=job.header.arch,
        image_size=job.header.preprocessing.image_size,
        images=job.batches.images,
        parameters=sum(parameter.numel() for parameter in job.model.parameters()),
        runtime=job.runtime.describe(),
        optim=job.optim,
        notes=job.notes,
        bad=tuple(job.dataset.bad),
    )
