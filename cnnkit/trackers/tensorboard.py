"""``--log tensorboard``: event files in ``events/`` of the run directory; look at them with: tensorboard --logdir runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import MissingExtraError
from cnnkit.trackers.protocol import figures, settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from cnnkit.engine.fit import EpochResult


class TensorBoardTracker:
    """Scalars per epoch, all settings as hyperparameters and config.json as text. A resumed run goes on in the same folder."""

    def __init__(self) -> None:
        try:
            from torch.utils import tensorboard
        except ImportError as error:
            raise MissingExtraError(
                f"--log tensorboard needs the package tensorboard: pip install 'cnnkit[tensorboard]' ({error})"
            ) from None
        self._make = tensorboard.SummaryWriter
        self._writer: SummaryWriter | None = None

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Open the event file; what an earlier, interrupted one holds beyond `epoch` is no longer shown."""
        self._writer = self._make(str(folder / "events"), purge_step=epoch + 1 if epoch else None)
        if epoch:
            return
        from torch.utils.tensorboard.summary import hparams

        self._writer.add_text("config.json", "```json\n" + json.dumps(facts, indent=2) + "\n```")
        for summary in hparams(settings(facts), {"accuracy/val": 0.0, "loss/val": 0.0}):
            assert self._writer.file_writer is not None  # noqa: S101 (it is open)
            self._writer.file_writer.add_summary(summary)  # add_hparams would make a second run of it

    def epoch(self, result: EpochResult) -> None:
        """Write the figures of an epoch, at once: somebody is looking on."""
        assert self._writer is not None  # noqa: S101 (it was started)
        for name, value in figures(result).items():
            self._writer.add_scalar(name, value, result.epoch)
        self._writer.flush()

    def end(self, status: str) -> None:
        """Close the event file."""
        assert self._writer is not None  # noqa: S101 (it was started)
        self._writer.add_text("status", status)
        self._writer.close()
