"""The tracker ``--log wandb``: a run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and wandb's other variables choose its target."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import MissingExtraError
from cnnkit.trackers.protocol import epoch_metrics

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult


class WandbTracker:
    """A tracker with settings as config and metrics per epoch. Its files are in ``events/``; a resumed run continues its run of wandb."""

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtraError(f"--log wandb needs the package wandb; type: pip install 'cnnkit[wandb]' ({error})") from None
        self._wandb: Any = wandb
        self._run: Any = None

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Start a run with the name of the run directory, or continue the run whose id is in ``events/wandb-run-id``."""
        del epoch  # a run that begins has no such file
        known = folder / "events" / "wandb-run-id"
        known.parent.mkdir(exist_ok=True)
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cnnkit"),
            name=folder.name,
            config=dict(facts["config"]),
            dir=str(known.parent),
            id=known.read_text("utf-8") if known.is_file() else None,
            resume="allow",
        )
        known.write_text(self._run.id, "utf-8")

    def epoch(self, result: EpochResult) -> None:
        """Log the metrics of an epoch."""
        self._run.log(epoch_metrics(result), step=result.epoch)

    def end(self, status: str) -> None:
        """End the run; every status except ``finished`` counts as failed."""
        self._run.finish(exit_code=0 if status == "finished" else 1)
