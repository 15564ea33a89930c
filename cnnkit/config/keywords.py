"""The settings of a training as typed keywords of `cnnkit.train` and `cnnkit.tune`: names and types for editors and type checkers.

`cnnkit.config.settings` defines and describes every setting. A value may have the form of its flag, such as ``"10m"``, or the type of the
setting.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict


class TrialSettings(TypedDict, total=False):
    """The settings of the trainings of `cnnkit.tune`, whose `budget` limits the search; a setting left out comes from the recipe."""

    # data
    download: bool
    split: str | tuple[float, ...]
    split_file: str | Path | None
    group_by: str
    classes: str | Sequence[str]
    min_images: int
    exclude: str | Sequence[str]
    balance: Literal["none", "weights", "sampler"]
    cache: Literal["auto", "ram", "disk", "none"]
    workers: int
    on_bad: Literal["skip", "fail"]
    # model
    set: Sequence[str]
    weights: str
    image_size: int | None
    channels: Literal[1, 3]
    resize_mode: Literal["crop", "pad", "squash"]
    draft: bool
    # optimisation
    epochs: int
    batch_size: int | Literal["auto"]
    lr: float | Literal["auto"]
    optimizer: str
    loss: str
    weight_decay: float
    schedule: Literal["constant", "cosine", "linear"]
    warmup_epochs: float
    label_smoothing: float
    start_size: int
    freeze_epochs: int
    freeze_norm: bool
    layer_decay: float
    ema: float
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    compile: bool
    accumulate: int
    clip_grad: float
    # augmentation
    augment: Literal["none", "light", "default", "strong"]
    rotate: float | None
    flip: Literal["h", "v", "hv", "none"] | None
    zoom: str | tuple[float, float] | None
    shift: float | None
    color: float | None
    randaugment: str | tuple[int, int] | None
    erase: float | None
    mixup: float | None
    cutmix: float | None
    augment_with: Sequence[str]
    # stopping
    patience: int
    min_delta: float
    monitor: Literal["val_loss", "val_accuracy", "val_macro_f1"]
    # run
    out: str | Path | None
    seed: int
    deterministic: bool
    save_every: float | str
    device: Literal["auto", "cpu", "cuda", "mps"]
    log: str | Sequence[str]


class TrainingSettings(TrialSettings, total=False):
    """The settings of a training except `data` and `arch`; a setting left out comes from the recipe."""

    budget: str | float
