"""The record of a run, config.json: its resolved settings, images, machine and versions, and the state of the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from cnnkit.config.settings import TrainConfig
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.run_dir.document import Count, Document, Part, Real, Text, UnreadableImage, YesNo, strict_model

# A search prunes a run that is worse than its others; it may be resumed as a stopped one.
Status = Literal["running", "stopped", "failed", "finished", "pruned"]
# Fields newer than format 1, with the values that older files mean: such a run decoded JPEGs whole.
LATER_SETTINGS = {
    "data": {"min_images": 0, "exclude": []},
    "model": {"draft": False},
    "optim": {"freeze_norm": False, "loss": "cross-entropy"},
    "augment": {"augment_with": []},
    "run": {"save_every": 0.0},
}
LATER_PREPROCESSING = {"draft_side": None}


def _option(value: object) -> bool | float | str:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("must be a number, text, true or false")  # noqa: TRY004 (pydantic collects a ValueError)
    return value


OptionValue = Annotated[bool | int | float | str, PlainValidator(_option)]


class RecordedArchitecture(Part):
    """The architecture and the options of the network."""

    name: Text
    options: dict[Text, OptionValue]


class RecordedAugmentation(Part):
    """The augmentation of the training images, in the units of `cnnkit.data.augment.augment.AugmentationStrength`."""

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
    """The device and the arithmetic of the training; a resumed training keeps both."""

    device: Literal["cpu", "cuda", "mps"]
    precision: Literal["fp32", "bf16", "fp16"]
    channels_last: YesNo
    replicas: Annotated[Count, Field(ge=1)]
    threads: Annotated[Count, Field(ge=1)]
    compiled: YesNo


class SplitCounts(Part):
    """The number of images in each split."""

    train: Count
    val: Count
    test: Count


class RecordedData(Part):
    """The images: their `location` as an absolute path or a source, and the `sha256` of all paths, labels, splits and contents.

    `units` counts the units of each split (copies and groups count once); None in the records of older versions.
    """

    location: Text
    name: Text
    sha256: Text
    images: SplitCounts
    units: SplitCounts | None = None


class RecordedExtension(Part):
    """A loss, an optimizer or an augmentation of another package: its name, its package with `version`, and its options."""

    kind: Text
    name: Text
    package: Text
    version: Text
    options: dict[Text, OptionValue]


class RecordedResult(Part):
    """The state of the training: the number of `epochs`, the best epoch and its value of `monitor`; `best_value` is None without one."""

    epochs: Count
    best_epoch: Count
    monitor: Literal["val_loss", "val_accuracy", "val_macro_f1"]
    best_value: Real | None
    stopped_early: YesNo

    @property
    def kept_epoch(self) -> int | None:
        """The best epoch, 0 for the start; None if there is none."""
        return None if self.best_value is None else self.best_epoch


class RecordedTrial(Part):
    """The trial that a run trains: the name and the id of its search, and the number of the trial."""

    search: Text
    id: Text
    number: Count


class RunRecord(Document):
    """All data of a run except its model: enough to repeat it, to resume it and to find its images.

    `command` is the command line; `classes` are in the order of their index. `unreadable` images were left out; `notes` were
    shown to the user. `trial` is the trial of a search, None for any other training. `extensions` are the values of other packages, beside
    the architecture. `ranks` is the number of processes that trained together, and `launch` names their launch by torchrun or SLURM.
    """

    status: Status
    command: tuple[Text, ...]
    config: Annotated[TrainConfig, strict_model(TrainConfig, LATER_SETTINGS)]
    classes: Annotated[tuple[Text, ...], Field(min_length=1)]
    arch: RecordedArchitecture
    preprocessing: Annotated[Preprocessing, strict_model(Preprocessing, LATER_PREPROCESSING)]
    augmentation: RecordedAugmentation
    runtime: RecordedRuntime
    versions: dict[Text, Text]
    data: RecordedData
    unreadable: tuple[UnreadableImage, ...]
    notes: tuple[Text, ...]
    result: RecordedResult
    trial: RecordedTrial | None = None
    extensions: tuple[RecordedExtension, ...] = ()
    ranks: Annotated[Count, Field(ge=1)] = 1
    launch: Text = ""
