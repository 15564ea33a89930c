"""The record of a run, config.json: every setting resolved, the images, the machine, the versions, and how far the training is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from cnnkit.config.settings import TrainConfig
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.run_dir.document import Count, Document, Part, Real, Text, UnreadableImage, YesNo, borrowed

Status = Literal["running", "stopped", "failed", "finished"]
LATER_SETTINGS: frozenset[str] = frozenset()  # such as "optim.lookahead": newer than format 1, so older files have its default


def _option(value: object) -> bool | float | str:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text, true or false")  # noqa: TRY004 (pydantic collects a ValueError)
    return value


class RecordedArchitecture(Part):
    """The architecture and the options that its network was built with."""

    name: Text
    options: dict[Text, Annotated[bool | int | float | str, PlainValidator(_option)]]


class RecordedAugmentation(Part):
    """How far training images are varied, in the units of `cnnkit.data.augment.augment.Augmentation`."""

    rotate: Real
    flip: Literal["none", "h", "v", "hv"]
    zoom: tuple[Real, Real]
    shift: Real
    color: Real
    erase: Real
    randaugment: tuple[Count, Count]
    mixup: Real
    cutmix: Real


class RecordedRuntime(Part):
    """Where and in which arithmetic the network is trained; a resumed training goes on in the same."""

    device: Literal["cpu", "cuda", "mps"]
    precision: Literal["fp32", "bf16", "fp16"]
    channels_last: YesNo
    replicas: Annotated[Count, Field(ge=1)]
    threads: Annotated[Count, Field(ge=1)]
    compiled: YesNo


class SplitCounts(Part):
    """Images per split."""

    train: Count
    val: Count
    test: Count


class RecordedData(Part):
    """The images: `location` names them from any working directory, `sha256` is of all paths, labels, splits and contents."""

    location: Text
    name: Text
    sha256: Text
    images: SplitCounts


class RecordedResult(Part):
    """How far the training is: the number of `epochs`, and the best of them, 0 before one was; `best_value` is of `monitor`."""

    epochs: Count
    best_epoch: Count
    monitor: Literal["val_loss", "val_accuracy", "val_macro_f1"]
    best_value: Real | None
    stopped_early: YesNo


class RunRecord(Document):
    """All that is known of a run beside its model: enough to repeat it, to resume it and to find its images.

    `status` says how far it is, `command` is the command line, `classes` are in index order. `unreadable` images were left out;
    `notes` were shown to the user.
    """

    status: Status
    command: tuple[Text, ...]
    config: Annotated[TrainConfig, borrowed(TrainConfig, LATER_SETTINGS)]
    classes: Annotated[tuple[Text, ...], Field(min_length=1)]
    arch: RecordedArchitecture
    preprocessing: Annotated[Preprocessing, borrowed(Preprocessing)]
    augmentation: RecordedAugmentation
    runtime: RecordedRuntime
    versions: dict[Text, Text]
    data: RecordedData
    unreadable: tuple[UnreadableImage, ...]
    notes: tuple[Text, ...]
    result: RecordedResult
