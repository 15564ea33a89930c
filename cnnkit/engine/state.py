"""The file for an exact resume: weights, their average, optimizer and early stopping, replaced as a whole by the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import nn

from cnnkit.engine.early_stopping import EarlyStopping
from cnnkit.engine.epoch_sums import EpochPart
from cnnkit.engine.fit import EpochResult, TrainingState
from cnnkit.engine.ranks import Ranks
from cnnkit.errors import DamagedFileError, ModelFileError
from cnnkit.files import check_file, whole_file
from cnnkit.files.whole import make_folder

FILE_NAME = "state.pt"
PREVIOUS_NAME = "previous.pt"  # the state before the newest one, in case that one is damaged


def state_file(folder: Path) -> Path:
    """Return the file that `save_state` writes into `folder`."""
    return folder / FILE_NAME


def has_state(folder: Path) -> bool:
    """Tell whether `folder` holds a state, the newest or the one before it."""
    return state_file(folder).exists() or (folder / PREVIOUS_NAME).exists()


def _content(model: nn.Module, state: TrainingState) -> dict[str, Any]:
    """Return the content of a state file."""
    return {
        "model": model.state_dict(),
        "average": state.average.module.state_dict() if state.average is not None else None,
        "optimizer": state.optimizer.state_dict(),
        "stopping": state.stopping.to_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "spent": state.spent,
        "part": vars(state.part) if state.part else None,
        "parts": state.parts,
        "scaler": state.scaler,
        "result": asdict(state.result) if state.result else None,
    }


def save_state(folder: Path, model: nn.Module, state: TrainingState) -> None:
    """Write `state` and the weights of `model` into `folder`; the older file is kept under `PREVIOUS_NAME`."""
    make_folder(folder)
    whole = _content(model, state)
    with whole_file(state_file(folder), folder / PREVIOUS_NAME) as part, part.open("wb") as file:
        try:
            torch.save(whole, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch hides the error of the file behind its own
                raise error.__context__ from None
            raise


def load_state(folder: Path, model: nn.Module, state: TrainingState) -> str:
    """Load the newest good file that `save_state` wrote into `model` and `state`.

    Returns a note if that is the previous state, because the newest one is damaged or missing; else an empty text. Raises
    `ModelFileError` if no file is good, or if the file does not fit the model.
    """
    newest, previous = state_file(folder), folder / PREVIOUS_NAME
    try:
        saved = _read(newest)
    except ModelFileError as error:
        try:
            saved = _read(previous)
        except ModelFileError:
            raise error from None
        _restore(saved, previous, model, state)
        return f"{newest.name} is damaged or missing, so the training continues {state.position}, the state in {previous}"
    _restore(saved, newest, model, state)
    return ""


def share_state(ranks: Ranks, model: nn.Module, state: TrainingState) -> None:
    """Give all ranks the weights of `model` and the `state` of rank 0, the only one that reads files of the run."""
    if ranks.several:
        shared = ranks.share(_packed(_content(model, state)) if ranks.is_first else b"")
        if not ranks.is_first:
            _restore(_unpacked(shared), Path(f"the state of rank 0 on rank {ranks.rank}"), model, state)


def share_weights(ranks: Ranks, model: nn.Module) -> None:
    """Give all ranks the weights of `model` on rank 0."""
    if ranks.several:
        shared = ranks.share(_packed(model.state_dict()) if ranks.is_first else b"")
        if not ranks.is_first:
            model.load_state_dict(_unpacked(shared))


def _packed(content: Mapping[str, Any]) -> bytes:
    buffer = BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _unpacked(data: bytes) -> dict[str, Any]:
    return torch.load(BytesIO(data), weights_only=True, map_location="cpu")


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a state file; raises `ModelFileError` if it is missing or damaged, `OSError` if it cannot be read."""
    try:
        check_file(path)
    except FileNotFoundError:
        raise ModelFileError(
            f"{path}: no such file, so the run cannot be resumed: it stopped before its first epoch ended; start it again with cnnkit train"
        ) from None
    except DamagedFileError as error:
        raise DamagedFileError(f"{error}; else the run cannot be resumed; restore the file from a copy, or use cnnkit train") from None
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch.load raises many types for a damaged file
        raise ModelFileError(f"{path}: damaged, so the run cannot be resumed; start it again with cnnkit train") from error


def _restore(saved: Any, path: Path, model: nn.Module, state: TrainingState) -> None:
    """Copy the content `saved` of the file `path` into `model` and `state`; raises `ModelFileError` if it does not fit."""
    try:
        model.load_state_dict(saved["model"])
        if state.average is not None:
            state.average.module.load_state_dict(saved["average"])
        state.optimizer.load_state_dict(saved["optimizer"])
        state.stopping = EarlyStopping(**saved["stopping"])
        state.epoch, state.step, state.spent = saved["epoch"], saved["step"], saved.get("spent", 0.0)
        part = saved.get("part")
        state.part = EpochPart(**part) if part else None
        state.parts, state.scaler = saved.get("parts", 1), saved.get("scaler", {})
        result = saved.get("result")
        state.result = EpochResult(**result) if result else None
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = shorten(f"{type(error).__name__}: {error}", 300, placeholder=" ...")  # torch names every tensor that does not fit
        raise ModelFileError(
            f"{path}: does not fit this run, so the run cannot be resumed; start it again with cnnkit train ({reason})"
        ) from error
