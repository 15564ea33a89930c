"""The file for an exact resume: weights, their average, optimizer and early stopping, replaced as a whole after every epoch."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten

import torch
from torch import nn

from cnnkit.engine.early_stopping import EarlyStopping
from cnnkit.engine.fit import TrainingState
from cnnkit.errors import ModelFileError
from cnnkit.files import whole_file

FILE_NAME = "state.pt"


def state_file(folder: Path) -> Path:
    """Return the file that `save_state` writes into `folder`."""
    return folder / FILE_NAME


def save_state(folder: Path, model: nn.Module, state: TrainingState) -> None:
    """Write `state` and the weights of `model` into `folder`; the file replaces an older one only when it is whole."""
    folder.mkdir(exist_ok=True)
    whole = {
        "model": model.state_dict(),
        "average": state.average.module.state_dict() if state.average is not None else None,
        "optimizer": state.optimizer.state_dict(),
        "stopping": state.stopping.to_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "spent": state.spent,
    }
    with whole_file(state_file(folder)) as part:
        torch.save(whole, part)


def load_state(folder: Path, model: nn.Module, state: TrainingState) -> None:
    """Load the file that `save_state` wrote into `model` and `state`.

    Raises `ModelFileError` if the file is missing or damaged, or does not fit the model.
    """
    path = state_file(folder)
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise ModelFileError(
            f"{path}: no such file, so the run cannot be resumed: it stopped before its first epoch ended; start it again with cnnkit train"
        ) from None
    except Exception as error:  # torch.load raises many types for a damaged file
        raise ModelFileError(f"{path}: damaged, so the run cannot be resumed; start it again with cnnkit train") from error
    try:
        model.load_state_dict(saved["model"])
        if state.average is not None:
            state.average.module.load_state_dict(saved["average"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.stopping = EarlyStopping(**saved["stopping"])
        state.epoch, state.step, state.spent = saved["epoch"], saved["step"], saved.get("spent", 0.0)
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")  # torch names every tensor that does not fit
        raise ModelFileError(
            f"{path}: does not fit this run, so the run cannot be resumed; start it again with cnnkit train ({reason})"
        ) from error
