"""Every setting of a training, with its default, unit and bounds: the only place of a default.

The command line is made from these models (`cnnkit.cli.options`): a field is a flag, its description is the help text,
its section is the panel. Recipes and ``--config`` files are TOML documents of the same sections (`cnnkit.config.recipe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from cnnkit.config.parsing import Duration, Words, flag, number_or_auto, numbers
from cnnkit.config.tiers import Tier
from cnnkit.errors import ConfigError, closest

TOLERANCE = 1e-6  # 0.7 + 0.15 + 0.15 is not 1 in binary
# Of a training after its warm-up that sees images of `start_size`: see docs/benchmarks/LOG.md, "Start size, mirrored filters and
# wider networks".
START_SHARE = 0.6
Values = Mapping[str, Mapping[str, Any]]


class Section(BaseModel):
    """A group of settings: one panel of ``cnnkit train --help``, one table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DataConfig(Section):
    """Which images, and how they are divided and kept."""

    data: str = Field(default="", description="Folder of class folders (or of train/val/test folders), CSV, zip or tar, or 'digits'.")
    download: bool = Field(default=False, description="Download the data if it has a name, such as torchvision:CIFAR10, and is not here.")
    split: Annotated[tuple[float, ...], numbers("/")] = Field(
        default=(0.7, 0.15, 0.15),
        description="Shares train/val/test by which images that come without a split are drawn.",
        json_schema_extra={"metavar": "A/B/C"},
    )
    split_file: Path | None = Field(
        default=None, description="Sides of an earlier split.csv (path,split); new images are divided as usual."
    )
    group_by: str = Field(
        default="",
        description="Images of one group (patient, video) land on one side: a column of the CSV, or a pattern of the path.",
        json_schema_extra={"metavar": "COLUMN|REGEX"},
    )
    classes: Words = Field(
        default=(), description="Use only these classes, comma-separated (all of them by default).", json_schema_extra={"metavar": "A,B"}
    )
    balance: Literal["none", "weights", "sampler"] = Field(
        default="none", description="Against imbalance: weigh the loss by inverse class frequency, or draw classes equally often."
    )
    cache: Literal["auto", "ram", "disk", "none"] = Field(
        default="auto",
        description="Where decoded images are kept; none: nowhere, they are decoded in every epoch; auto: on disk, or in memory when the "
        "disk is short and they fit into half of what is free, else none.",
    )
    workers: int = Field(default=0, ge=0, description="Processes that decode images; 0: one per core.")
    on_bad: Literal["skip", "fail"] = Field(
        default="skip", description="What an unreadable image does: be named and left out, or refuse the run."
    )

    @model_validator(mode="after")
    def _shares(self) -> DataConfig:
        if len(self.split) not in {2, 3} or min(self.split[:2]) <= 0 or min(self.split) < 0 or abs(sum(self.split) - 1) > TOLERANCE:
            given = "/".join(f"{share:g}" for share in self.split)
            raise ValueError(f"`--split` (={given}) must be two or three shares that sum to 1, such as 0.7/0.15/0.15 or 0.8/0.2")
        return self


class ModelConfig(Section):
    """Which network, and what it sees."""

    arch: str = Field(default="custom-cnn", description="Architecture, as listed by: cnnkit archs")
    set: tuple[str, ...] = Field(
        default=(),
        description="An option of the architecture, such as width=64; may be repeated.",
        json_schema_extra={"metavar": "NAME=VALUE"},
    )
    weights: str = Field(default="none", description="Start from: none, pretrained (downloads), or a .safetensors / .pth file.")
    image_size: int | None = Field(
        default=None,
        ge=8,
        le=2048,
        description="Side of the square image in pixels; by default the weights', else the lesser of the architecture's and the data's.",
    )
    channels: Literal[1, 3] = Field(default=3, description="3: colour, 1: gray.")
    resize_mode: Literal["crop", "pad", "squash"] = Field(default="crop", description="How an image that is not square becomes square.")


class OptimSettings(Section):
    """How the network learns; what is ``auto`` is found out before the first step, which makes it an `OptimConfig`."""

    epochs: int = Field(default=30, ge=1, description="Passes over the training images, at most; --budget takes their place.")
    budget: Duration = Field(
        default=0.0,
        ge=0,
        description="Train for this long, evaluation and saving included, such as 90s, 10m or 1h30m; the schedule follows the clock.",
        json_schema_extra={"metavar": "TIME"},
    )
    batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], number_or_auto("a whole number, at least 1")] = Field(
        default=128,
        description="Images per step; auto: what is fast here, as many as fit on a GPU, and no more than leave an epoch enough steps.",
        json_schema_extra={"metavar": "N|auto"},
    )
    lr: Annotated[Annotated[float, Field(gt=0)] | Literal["auto"], number_or_auto("a number above 0, such as 2e-3")] = Field(
        default=2e-3,
        description="Peak learning rate; auto: what a range test suggests, as cnnkit lr-find makes it.",
        json_schema_extra={"metavar": "N|auto"},
    )
    optimizer: Literal["adam", "adamw", "sgd", "muon"] = Field(
        default="adamw", description="sgd is Nesterov's, momentum 0.9; muon orthogonalises the updates of hidden layers."
    )
    weight_decay: float = Field(
        default=0.05, ge=0, description="Decoupled for adamw, L2 for adam and sgd; biases and normalisations are spared."
    )
    schedule: Literal["constant", "cosine", "linear"] = Field(
        default="cosine", description="How the learning rate falls to zero after warm-up."
    )
    warmup_epochs: float = Field(default=1.0, ge=0, description="Epochs in which the learning rate rises to its peak.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Share of the target spread over all classes.")
    start_size: int = Field(
        default=0,
        ge=0,
        description=f"Side of the images in the first {100 * START_SHARE:.0f} % of the training, in pixels: smaller ones are faster; "
        "0: as later.",
        json_schema_extra={"metavar": "PX"},
    )
    freeze_epochs: int = Field(default=0, ge=0, description="Epochs that train only the last layer; needs --weights.")
    layer_decay: float = Field(default=1.0, gt=0, le=1, description="Factor on the learning rate per layer from the last to the first.")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="Decay of an average of the weights that is validated and kept; 0.999 is usual, 0: none."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="auto: a probe of about a second picks the fastest that is safe here."
    )
    compile: bool = Field(default=False, description="Compile the network by torch.compile: half a minute or more before the first step.")
    accumulate: int = Field(default=1, ge=1, description="Batches whose gradients make one step.")
    clip_grad: float = Field(default=0.0, ge=0, description="Largest gradient norm; 0: no limit.")

    def settled(self, *, batch_size: int, lr: float) -> OptimConfig:
        """Return these settings with numbers where ``auto`` may stand."""
        return OptimConfig.model_validate({**self.model_dump(), "batch_size": batch_size, "lr": lr})


class OptimConfig(OptimSettings):
    """How the network learns, in numbers alone: what the engine trains by."""

    # narrower than in the class above, which is safe: what is frozen is only read
    batch_size: int = Field(default=OptimSettings.model_fields["batch_size"].default, ge=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    lr: float = Field(default=OptimSettings.model_fields["lr"].default, gt=0)  # pyright: ignore[reportIncompatibleVariableOverride]


class AugmentConfig(Section):
    """How training images are varied at random; a value left out comes from the preset."""

    augment: Literal["none", "light", "default", "strong"] = Field(default="default", description="Preset of the following.")
    rotate: float | None = Field(
        default=None, ge=0, le=180, description="Largest rotation in degrees, either way.", json_schema_extra={"metavar": "DEG"}
    )
    flip: Literal["h", "v", "hv", "none"] | None = Field(
        default=None,
        description="Mirror half of the images: left-right, upside down, both; off by itself when class names look like digits or sides.",
    )
    zoom: Annotated[tuple[float, float] | None, numbers(",")] = Field(
        default=None, description="Range of magnification, such as 0.9,1.1.", json_schema_extra={"metavar": "LO,HI"}
    )
    shift: float | None = Field(
        default=None, ge=0, le=0.5, description="Largest shift as a share of the side.", json_schema_extra={"metavar": "SHARE"}
    )
    color: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Brightness, contrast and saturation times 1 - X to 1 + X.",
        json_schema_extra={"metavar": "X"},
    )
    randaugment: Annotated[tuple[Annotated[int, Field(ge=0, le=4)], Annotated[int, Field(ge=0, le=30)]] | None, numbers(",")] = Field(
        default=None,
        description="N (up to 4) of RandAugment's operations on every image with magnitude M (0 to 30), such as 2,9.",
        json_schema_extra={"metavar": "N,M"},
    )
    erase: float | None = Field(
        default=None, ge=0, le=1, description="Share of images with a random rectangle erased.", json_schema_extra={"metavar": "P"}
    )
    mixup: float | None = Field(
        default=None, ge=0, description="Blend images and labels of two, with shares from Beta(A, A).", json_schema_extra={"metavar": "A"}
    )
    cutmix: float | None = Field(
        default=None,
        ge=0,
        description="Paste a rectangle of another image, label in proportion, sizes from Beta(A, A); 1 is usual; with --mixup, half each.",
        json_schema_extra={"metavar": "A"},
    )

    @model_validator(mode="after")
    def _zoom_range(self) -> AugmentConfig:
        if self.zoom is not None and not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"`--zoom` (={self.zoom[0]:g},{self.zoom[1]:g}) must be LO,HI with 0 < LO <= HI, such as 0.9,1.1")
        return self

    @field_validator("randaugment", mode="wrap")
    @classmethod
    def _operations(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        try:
            return check(value)
        except ValidationError:
            raise ValueError("must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9") from None


class StopConfig(Section):
    """When training ends early, and which epoch is the best."""

    patience: int = Field(default=8, ge=0, description="Epochs without a better model before training stops; 0: never.")
    min_delta: float = Field(default=0.0, ge=0, description="What counts as better: an improvement by more than this.")
    monitor: Literal["val_loss", "val_accuracy", "val_macro_f1"] = Field(
        default="val_loss", description="The metric that chooses the best epoch."
    )


class RunConfig(Section):
    """Where results go, and what makes the run repeatable."""

    out: Path | None = Field(default=None, description="Folder of run directories; by default $CNNKIT_RUNS or ./runs.")
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of split, weights, order, augmentation and dropout.")
    deterministic: bool = Field(default=False, description="Bit-equal on the same machine: fp32 without a probe, deterministic kernels.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(default="auto", description="auto: the GPU if there is one.")
    log: Words = Field(
        default=(),
        description="Trackers that follow the training, comma-separated: tensorboard, mlflow, wandb, or a plugin's.",
        json_schema_extra={"metavar": "A,B"},
    )


class TrainConfig(Section):
    """A whole training; `recipe` is the name the defaults came from, `larger` holds what fits a longer budget, or a faster machine."""

    recipe: str = "default"
    larger: tuple[Tier, ...] = ()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimSettings = OptimSettings()
    augment: AugmentConfig = AugmentConfig()
    stop: StopConfig = StopConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _lengths(self) -> TrainConfig:
        frozen, epochs = self.optim.freeze_epochs, self.optim.epochs
        if frozen and self.model.weights == "none":
            raise ValueError(f"`--freeze-epochs` (={frozen}) needs weights worth keeping: give --weights, or leave it out")
        if frozen > epochs and not self.optim.budget:
            raise ValueError(f"`--freeze-epochs` (={frozen}) must not exceed --epochs (={epochs})")
        if self.optim.warmup_epochs > epochs and not self.optim.budget:
            raise ValueError(f"`--warmup-epochs` (={self.optim.warmup_epochs:g}) must not exceed --epochs (={epochs})")
        return self

    @model_validator(mode="after")
    def _repeatable(self) -> TrainConfig:
        if self.run.deterministic and self.optim.batch_size == "auto":
            raise ValueError("`--batch-size` (=auto) depends on how busy the machine is; with --deterministic give a number, such as 128")
        return self


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in TrainConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}


def by_section(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort flat ``{field: value}`` into sections; raises `ConfigError` for a name that is no setting."""
    sections: dict[str, dict[str, Any]] = {}
    homes = {field: name for name, section in SECTIONS.items() for field in section.model_fields}
    for field, value in values.items():
        if field not in homes:
            raise ConfigError(f"{field!r} is not a setting of a training{closest(field, homes)}")
        sections.setdefault(homes[field], {})[field] = value
    return sections


def validated(values: Mapping[str, Any]) -> TrainConfig:
    """Check nested `values` as a `TrainConfig`; raises `ConfigError` in the words of the command line."""
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError("\n".join(_sentence(dict(problem)) for problem in error.errors())) from None


def _sentence(problem: dict[str, Any]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ").replace("Input should be", "must be").replace("Input should", "must")
    path = [str(part) for part in problem["loc"]]
    if not path or path in [[section] for section in SECTIONS]:  # a rule over several fields words itself
        return message
    known = [field for section in SECTIONS.values() for field in section.model_fields]
    name = path[1] if len(path) > 1 else path[0]
    if problem["type"] == "extra_forbidden":
        return f"{'.'.join(path)}: there is no such setting{closest(name, known)}"
    return f"`{flag(name)}` (={problem['input']}) {message[0].lower()}{message[1:]}"
