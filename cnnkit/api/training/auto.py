"""Settings given as ``auto``: trials on copies of the network find their values before any file is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig, OptimSettings
from cnnkit.data.batches import Batches
from cnnkit.data.progress import Progress
from cnnkit.data.store.scan import free_memory
from cnnkit.engine.batch_size import choose_batch_size, max_batch_size
from cnnkit.engine.custom import BUILT_IN, Custom
from cnnkit.engine.lr_range import MIN_RATE, range_test
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError

MAX_BUDGET_SHARE = 0.5  # of a time budget that trials may take; the rest is for training
MIN_BUDGET = 1e-3  # s: a budget that the fit of the last layer used up leaves this, because 0 means no budget
DEFAULTS = OptimConfig()  # their values replace auto in messages


class AutoSettings:
    """Search for the values of the ``auto`` settings among `requested`; `notes` name the values found.

    Several `ranks` use the values that rank 0 finds. Every method raises `ConfigError` if the trials take more than `MAX_BUDGET_SHARE` of
    a time budget.
    """

    def __init__(self, requested: OptimSettings, clock: Callable[[], float] = time.perf_counter, ranks: Ranks = ONE) -> None:
        self.notes: list[str] = []
        self._requested = requested
        self._clock = clock
        self._ranks = ranks
        self._seconds = 0.0
        self._taken: dict[str, float] = {}  # seconds of a time budget, by the work before the training that took them

    def presumed_batch_size(self, images: int) -> int:
        """Return the batch size before the search: the requested one, else the default, limited by the number of `images`."""
        if self._requested.batch_size != "auto":
            return self._requested.batch_size
        return min(DEFAULTS.batch_size, max_batch_size(images, self._requested.accumulate).images)

    def batch_size(
        self, model: nn.Module, runtime: Runtime, image_shape: tuple[int, int, int], *, classes: int, images: int, custom: Custom = BUILT_IN
    ) -> int:
        """Return the batch size; if it is auto, find one for `model` and the number of training `images`, of `image_shape` (C, H, W)."""
        if self._requested.batch_size != "auto":
            return self._requested.batch_size
        return self._ranks.agreed(lambda: self._search_batch_size(model, runtime, image_shape, classes, images, custom))

    def _search_batch_size(
        self, model: nn.Module, runtime: Runtime, image_shape: tuple[int, int, int], classes: int, images: int, custom: Custom
    ) -> int:
        start, ranks = self._clock(), self._ranks.world
        found = choose_batch_size(
            model,
            self._requested.settled(batch_size=self.presumed_batch_size(images), lr=MIN_RATE),
            runtime,
            image_shape=image_shape,
            classes=classes,
            images=images,
            free=free_memory(),
            custom=custom,
            clock=self._clock,
            ranks=ranks,
        )
        self._spend(self._clock() - start, "--batch-size", f"{DEFAULTS.batch_size}")
        size = found.images * ranks
        each = f", {found.images} on each of {ranks} ranks" if ranks > 1 else ""
        self.notes.append(f"--batch-size auto: batches of {size}{each} ({found.reason})")
        return size

    def lr(
        self,
        model: nn.Module,
        batches: Batches,
        runtime: Runtime,
        *,
        class_weights: Tensor | None,
        seed: int,
        progress: Progress | None,
        custom: Custom = BUILT_IN,
    ) -> float:
        """Return the peak learning rate; if it is auto, find it by a range test, whose images `progress` counts.

        Raises `ConfigError` if the test suggests no rate.
        """
        if self._requested.lr != "auto":
            if self._requested.batch_size == "auto":
                self.notes.append(
                    f"the learning rate stays {self._requested.lr:g}; --lr auto finds a rate for batches of {batches.batch_size}"
                )
            return self._requested.lr
        report = in_images(progress, batches, self._requested.accumulate)
        last, default = self._clock(), f"{DEFAULTS.lr:g}"

        def spend_step(done: int, total: int) -> None:
            nonlocal last
            last, before = self._clock(), last
            if self._ranks.is_first:  # whose clock decides
                self._spend(last - before, "--lr", default)
            if report is not None:
                report(done, total)

        config = self._requested.settled(batch_size=batches.batch_size, lr=MIN_RATE)
        test = range_test(
            model,
            batches,
            config,
            runtime,
            class_weights=class_weights,
            custom=custom,
            seed=seed,
            progress=spend_step,
            ranks=self._ranks,
        )
        if test.suggestion is None:
            raise ConfigError(f"--lr auto: {test.no_suggestion_reason}; give a rate, such as --lr {default}; cnnkit lr-find plots the test")
        self.notes.append(f"--lr auto: a range test over {len(test.rates)} steps suggests {test.suggestion:g}")
        return test.suggestion

    def settings(self, *, batch_size: int, lr: float | Literal["auto"]) -> OptimSettings:
        """Return the settings with the values found and the time budget that the trials left."""
        return self._ranks.agreed(lambda: self._settings(batch_size, lr))

    def _settings(self, batch_size: int, lr: float | Literal["auto"]) -> OptimSettings:
        budget = self._requested.budget
        if budget and self._seconds:
            self.notes.append(f"--budget {budget:g}s: the trials for auto took {self._seconds:.1f} s of it")
            budget -= self._seconds
        for work, seconds in self._taken.items():
            if budget and seconds:
                self.notes.append(f"--budget {self._requested.budget:g}s: {work} took {seconds:.1f} s of it")
                budget = max(budget - seconds, MIN_BUDGET)
        return self._requested.model_copy(update={"batch_size": batch_size, "lr": lr, "budget": budget})

    def spend(self, seconds: float, work: str) -> None:
        """Take the `seconds` of `work`, such as ``the fit of the last layer``, from a time budget."""
        self._taken[work] = self._taken.get(work, 0.0) + seconds

    def _spend(self, seconds: float, flag: str, default: str) -> None:
        """Add the `seconds` of a trial for `flag`; raise `ConfigError`, which proposes `default`, if they exceed the share of a budget."""
        self._seconds += seconds
        budget = self._requested.budget
        if budget and self._seconds > MAX_BUDGET_SHARE * budget:
            raise ConfigError(
                f"{flag} auto: its trials take more than {100 * MAX_BUDGET_SHARE:.0f} % of --budget (={budget:g} s) here; "
                f"give a number, such as {flag} {default}, or a longer --budget"
            )


def in_images(progress: Progress | None, batches: Batches, accumulate: int) -> Progress | None:
    """Return a callback that takes numbers of updates and passes numbers of images to `progress`; None without `progress`."""
    if progress is None:
        return None
    images_per_update = batches.images / batches.steps * accumulate
    return lambda done, total: progress(round(done * images_per_update), round(total * images_per_update))
