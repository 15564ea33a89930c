"""The tracker ``--log tensorboard``: event files in ``events/`` of the run directory, shown by: tensorboard --logdir runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import MissingExtraError
from cnnkit.trackers.protocol import epoch_metrics, settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from cnnkit.engine.fit import EpochResult


class TensorBoardTracker:
    """A tracker with scalars per epoch, settings as hyperparameters and config.json as text. A resumed run continues its folder."""

    def __init__(self) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError as error:
            raise MissingExtraError(
                f"--log tensorboard needs the package tensorboard; type: pip install 'cnnkit[tensorboard]' ({error})"
            ) from None
        self._make = tensorboard.SummaryWriter
        self._writer: SummaryWriter | None = None

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Open the event file; TensorBoard no longer shows events of an interrupted run after `epoch`."""
        self._writer = self._make(str(folder / "events"), purge_step=epoch + 1 if epoch else None)
        if epoch:
            return
        from torch.utils.tensorboard.summary import hparams

        self._writer.add_text("config.json", "```json\n" + json.dumps(facts, indent=2) + "\n```")
        for summary in hparams(settings(facts), {"accuracy/val": 0.0, "loss/val": 0.0}):
            assert self._writer.file_writer is not None  # noqa: S101 (it is open)
            self._writer.file_writer.add_summary(summary)  # add_hparams would start a second run

    def epoch(self, result: EpochResult) -> None:
        """Write the metrics of an epoch, and flush them, as a user may be watching."""
        assert self._writer is not None  # noqa: S101 (it was started)
        for name, value in epoch_metrics(result).items():
            self._writer.add_scalar(name, value, result.epoch)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the event file."""
        assert self._writer is not None  # noqa: S101 (it was started)
        self._writer.add_text("status", status)
        self._writer.close()
