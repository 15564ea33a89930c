"""The values of ``auto``: settings found by trying on copies of the network, before anything is written."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from cnnkit.config.settings import OptimConfig, OptimSettings
from cnnkit.data.batches import Batches
from cnnkit.data.store.scan import Progress, free_memory
from cnnkit.engine.batch_size import choose_batch_size, max_batch_size
from cnnkit.engine.lr_range import MIN_RATE, range_test
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import ConfigError

BUDGET_SHARE = 0.5  # of a time budget that trials may take: the rest is for learning
TYPICAL = OptimConfig()  # what a message proposes in the place of auto


class AutoSettings:
    """Finds what is ``auto`` among the settings `asked`; `notes` say what was found.

    Raises `ConfigError` when the trials take more than `BUDGET_SHARE` of a time budget.
    """

    def __init__(self, asked: OptimSettings, clock: Callable[[], float] = time.perf_counter) -> None:
        self.notes: list[str] = []
        self._asked = asked
        self._clock = clock
        self._seconds = 0.0

    def presumed_batch_size(self, images: int) -> int:
        """Return the images per step for what must be chosen before: as asked for, else the default if that suits so many `images`."""
        if self._asked.batch_size != "auto":
            return self._asked.batch_size
        return min(TYPICAL.batch_size, max_batch_size(images, self._asked.accumulate).images)

    def batch_size(self, model: nn.Module, runtime: Runtime, image_shape: tuple[int, int, int], *, classes: int, images: int) -> int:
        """Return the batch size, finding one for `model` and so many training `images` of `image_shape` (C, H, W) if it is auto."""
        if self._asked.batch_size != "auto":
            return self._asked.batch_size
        began = self._clock()
        found = choose_batch_size(
            model,
            self._asked.settled(batch_size=self.presumed_batch_size(images), lr=MIN_RATE),
            runtime,
            image_shape=image_shape,
            classes=classes,
            images=images,
            free=free_memory(),
            clock=self._clock,
        )
        self._spend(self._clock() - began, "--batch-size", f"{TYPICAL.batch_size}")
        self.notes.append(f"--batch-size auto: batches of {found.images} ({found.reason})")
        return found.images

    def lr(
        self, model: nn.Module, batches: Batches, runtime: Runtime, *, class_weights: Tensor | None, seed: int, progress: Progress | None
    ) -> float:
        """Return the peak learning rate, finding one by a range test if it is auto; `progress` then counts training images.

        Raises `ConfigError` if the test suggests nothing.
        """
        if self._asked.lr != "auto":
            if self._asked.batch_size == "auto":
                self.notes.append(f"the learning rate stays {self._asked.lr:g}; --lr auto would fit it to batches of {batches.batch_size}")
            return self._asked.lr
        tell = in_images(progress, batches, self._asked.accumulate)
        last, instead = self._clock(), f"{TYPICAL.lr:g}"

        def going(done: int, total: int) -> None:
            nonlocal last
            last, before = self._clock(), last
            self._spend(last - before, "--lr", instead)
            if tell is not None:
                tell(done, total)

        config = self._asked.settled(batch_size=batches.batch_size, lr=MIN_RATE)
        test = range_test(model, batches, config, runtime, class_weights=class_weights, seed=seed, progress=going)
        if test.suggestion is None:
            raise ConfigError(f"--lr auto: {test.no_suggestion_reason}; give a rate, such as --lr {instead}; cnnkit lr-find draws the test")
        self.notes.append(f"--lr auto: a range test over {len(test.rates)} steps suggests {test.suggestion:g}")
        return test.suggestion

    def settings(self, *, batch_size: int, lr: float | Literal["auto"]) -> OptimSettings:
        """Return the settings with what was found, and of a time budget what the trials left."""
        budget = self._asked.budget
        if budget and self._seconds:
            self.notes.append(f"--budget {budget:g}s: finding what is auto took {self._seconds:.1f} s of it")
            budget -= self._seconds
        return self._asked.model_copy(update={"batch_size": batch_size, "lr": lr, "budget": budget})

    def _spend(self, seconds: float, flag: str, instead: str) -> None:
        """Count time that a trial for `flag` took; refuse to go on, proposing a number `instead`, if a budget cannot afford it."""
        self._seconds += seconds
        budget = self._asked.budget
        if budget and self._seconds > BUDGET_SHARE * budget:
            raise ConfigError(
                f"{flag} auto: trying takes more than {100 * BUDGET_SHARE:.0f} % of --budget (={budget:g} s) here; "
                f"give a number, such as {flag} {instead}, or a longer --budget"
            )


def in_images(progress: Progress | None, batches: Batches, accumulate: int) -> Progress | None:
    """Return `progress` for one who counts updates: it is told of images."""
    if progress is None:
        return None
    each = batches.images / batches.steps * accumulate
    return lambda done, total: progress(round(done * each), round(total * each))
