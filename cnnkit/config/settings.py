"""Every setting of a training: its default, which stands here only, its unit and its bounds.

`cnnkit.cli.options` makes the command line from these models: a field is a flag, its description is the help, its section is the
panel. Recipes and ``--config`` files are TOML documents of the same sections (`cnnkit.config.recipe`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator, model_validator

from cnnkit.config.parsing import Duration, Words, flag, number_or_auto, numbers
from cnnkit.config.passwords import keep_passwords
from cnnkit.config.tiers import Tier
from cnnkit.errors import ConfigError, closest, cut

SUM_TOLERANCE = 1e-6  # 0.7 + 0.15 + 0.15 is not 1 in binary
# Share of a training after its warm-up that sees images of `start_size`; see docs/benchmarks/LOG.md, "Start size, mirrored filters
# and wider networks".
START_SHARE = 0.6
MAX_VALUE_LENGTH = 200  # characters of a value in a message
BUILT_IN_OPTIMIZERS = ("adam", "adamw", "sgd", "muon")
BUILT_IN_LOSSES = ("cross-entropy",)
Values = Mapping[str, Mapping[str, Any]]


class Section(BaseModel):
    """A group of settings: one panel of ``cnnkit train --help``, one table of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def setting(default: Any, description: str, *, metavar: str = "", common: bool = False, **bounds: Any) -> Any:
    """Return a field whose flag shows `description` and `metavar`; a `common` one stands in the short help of a command."""
    return Field(default=default, description=description, json_schema_extra={"metavar": metavar, "common": common}, **bounds)


class DataConfig(Section):
    """The images, their splits, and the storage of decoded images."""

    data: str = setting(
        "",
        "Images: a folder of class folders (cats/1.jpg) or of train/val/test folders, a CSV, a zip or tar, torchvision:NAME, hf:NAME, "
        "or digits.",
        metavar="SOURCE",
        common=True,
    )
    download: bool = setting(
        default=False, description="Download data that has a name, such as torchvision:CIFAR10, if it is not on this machine."
    )
    split: Annotated[tuple[float, ...], numbers("/")] = setting(
        (0.7, 0.15, 0.15),
        "Shares of train, val and test for images that come without a split. Two shares leave out test, such as 0.8/0.2.",
        metavar="A/B/C",
        common=True,
    )
    split_file: Path | None = setting(
        None,
        "CSV of an earlier split (path,split), such as a run's split.csv. Images that it does not name are split as usual.",
        metavar="FILE",
    )
    group_by: str = setting(
        "",
        "Keep images of one group (a patient, a video) in one split. COLUMN names a column of the CSV, REGEX matches the path, "
        "such as '(patient[0-9]+)'.",
        metavar="COLUMN|REGEX",
    )
    classes: Words = setting((), "Use these classes only, such as cats,dogs. Default: all classes.", metavar="A,B")
    min_images: int = setting(
        0, "Leave out classes with fewer images, copies and groups counted once. 0 leaves out none.", metavar="N", ge=0
    )
    exclude: Words = setting(
        (),
        "Leave out images whose path matches one of these patterns, separated by commas, such as '*_mask.png,*/masks/*'. "
        "Default: leave out none.",
        metavar="PATTERN,...",
    )
    balance: Literal["none", "weights", "sampler"] = setting(
        "none", "Against imbalance: weights weighs the loss by inverse class frequency, sampler draws all classes equally often."
    )
    cache: Literal["auto", "ram", "disk", "none"] = setting(
        "auto",
        "Storage of decoded images. auto takes the disk, else memory, as their free space allows, else none. none decodes in every epoch.",
    )
    workers: int = setting(0, "Processes that decode images. 0 starts one per core.", metavar="N", ge=0)
    on_bad: Literal["skip", "fail"] = setting("skip", "Unreadable images: skip names them and leaves them out, fail refuses the training.")

    @field_validator("data")
    @classmethod
    def _hide_passwords(cls, data: str) -> str:
        return keep_passwords(data)

    @model_validator(mode="after")
    def _check_shares(self) -> DataConfig:
        shares = self.split
        if len(shares) not in {2, 3} or min(shares[:2]) <= 0 or min(shares) < 0 or abs(sum(shares) - 1) > SUM_TOLERANCE:
            given = "/".join(f"{share:g}" for share in shares)
            raise ValueError(f"`--split` (={given}) must be two or three shares that sum to 1, such as 0.7/0.15/0.15 or 0.8/0.2")
        return self


class ModelConfig(Section):
    """The network and its input."""

    arch: str = setting("custom-cnn", "Architecture, a name that `cnnkit archs` lists, such as timm/resnet18.", metavar="NAME", common=True)
    set: tuple[str, ...] = setting((), "Option of the architecture, such as width=64. Repeat it for more options.", metavar="NAME=VALUE")
    weights: str = setting(
        "none",
        "Weights to start from: none (random), pretrained (downloads them), or a .safetensors or .pth file.",
        metavar="none|pretrained|FILE",
        common=True,
    )
    image_size: int | None = setting(
        None,
        "Width and height of the input in pixels. Default: the size of the weights, else the architecture's size or that of the images, "
        "whichever is smaller.",
        metavar="PX",
        common=True,
        ge=8,
        le=2048,
    )
    channels: Literal[1, 3] = setting(3, "Channels of the network's input: 3 for colour, 1 for gray.", metavar="1|3")
    resize_mode: Literal["crop", "pad", "squash"] = setting(
        "crop", "Way to make an image square: crop cuts the longer edge, pad adds a gray border, squash distorts."
    )
    draft: bool = setting(
        default=True,
        description="Decode large JPEGs at 1/2, 1/4 or 1/8 of their size, above --image-size. --no-draft decodes them whole, more slowly.",
    )


class OptimSettings(Section):
    """The optimisation as asked for; `OptimConfig` has numbers where ``auto`` may stand here."""

    epochs: int = setting(30, "Passes over the training images, at most. --budget replaces it.", metavar="N", common=True, ge=1)
    budget: Duration = setting(
        0.0,
        "Time of the training with evaluation and saving, such as 90s, 10m or 1h30m. The schedule follows the clock. 0 trains by --epochs.",
        metavar="TIME",
        common=True,
        ge=0,
    )
    batch_size: Annotated[Annotated[int, Field(ge=1)] | Literal["auto"], number_or_auto("a whole number, at least 1")] = setting(
        128,
        "Images per step. auto tries sizes and takes the largest that a GPU holds or the fastest on a CPU, with enough steps per epoch.",
        metavar="N|auto",
        common=True,
    )
    lr: Annotated[Annotated[float, Field(gt=0)] | Literal["auto"], number_or_auto("a number above 0, such as 2e-3")] = setting(
        2e-3, "Peak learning rate. auto takes the suggestion of a range test, as `cnnkit lr-find` does.", metavar="X|auto", common=True
    )
    optimizer: str = setting(
        "adamw",
        "Optimizer: adam, adamw, sgd, muon or that of a package, such as lion. sgd has Nesterov momentum 0.9, muon orthogonalises the "
        "updates of hidden layers.",
        metavar="NAME",
    )
    loss: str = setting(
        "cross-entropy",
        "Loss: cross-entropy, or that of a package with its options after a colon, such as focal:gamma=1.5. val_loss stays cross-entropy.",
        metavar="NAME",
    )
    weight_decay: float = setting(
        0.05,
        "Weight decay, decoupled for adamw and muon, L2 for adam and sgd. 0 switches it off. Biases and norms have none.",
        metavar="X",
        ge=0,
    )
    schedule: Literal["constant", "cosine", "linear"] = setting(
        "cosine", "Fall of the learning rate to zero after warm-up. constant keeps it at the peak."
    )
    warmup_epochs: float = setting(1.0, "Epochs over which the learning rate rises to its peak. 0 starts at the peak.", metavar="X", ge=0)
    label_smoothing: float = setting(
        0.0, "Share of the target spread over all classes, such as 0.1. 0 switches it off.", metavar="X", ge=0, lt=1
    )
    start_size: int = setting(
        0,
        f"Width and height of the images in pixels in the first {100 * START_SHARE:.0f} % of the training, such as 24: small images are "
        "faster. "
        "0 uses --image-size throughout.",
        metavar="PX",
        ge=0,
    )
    freeze_epochs: int = setting(
        0, "Epochs that train the last layer only. Needs --weights. 0 trains all layers at once.", metavar="N", ge=0
    )
    freeze_norm: bool = setting(
        default=False,
        description="Keep mean and variance of batch normalisation as loaded, instead of those of each batch. Needs --weights.",
    )
    layer_decay: float = setting(
        1.0,
        "Factor on the learning rate per layer, from the last layer to the first, such as 0.75. 1 switches it off.",
        metavar="X",
        gt=0,
        le=1,
    )
    ema: float = setting(
        0.0,
        "Decay of a moving average of the weights, which is validated and kept, such as 0.999. 0 switches it off.",
        metavar="X",
        ge=0,
        lt=1,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "Arithmetic of training. auto picks the fastest safe arithmetic by a short probe."
    )
    compile: bool = setting(
        default=False,
        description="Compile the network by torch.compile, if a trial of at most 30 % of the training shows that this saves more time than "
        "it takes. With --deterministic, compile it without a trial.",
    )
    accumulate: int = setting(1, "Number of batches whose gradients make one step. 1 makes a step after every batch.", metavar="N", ge=1)
    clip_grad: float = setting(0.0, "Largest norm of the gradient, such as 1. 0 sets no limit.", metavar="X", ge=0)

    def settled(self, *, batch_size: int, lr: float) -> OptimConfig:
        """Return these settings with numbers where ``auto`` may stand."""
        return OptimConfig.model_validate({**self.model_dump(), "batch_size": batch_size, "lr": lr})


class OptimConfig(OptimSettings):
    """The optimisation settings in numbers, for the engine."""

    # narrower than in the class above, which is safe: a frozen field is only read
    batch_size: int = Field(default=OptimSettings.model_fields["batch_size"].default, ge=1)  # pyright: ignore[reportIncompatibleVariableOverride]
    lr: float = Field(default=OptimSettings.model_fields["lr"].default, gt=0)  # pyright: ignore[reportIncompatibleVariableOverride]


class AugmentConfig(Section):
    """The random augmentation of training images; a setting left out comes from the preset."""

    augment: Literal["none", "light", "default", "strong"] = setting(
        "default",
        "Preset of the augmentation: default rotates, flips, zooms and shifts. strong also varies colour and erases. none switches it off.",
        common=True,
    )
    rotate: float | None = setting(
        None, "Largest rotation in degrees, in both directions, such as 10. 0 switches it off.", metavar="DEG", ge=0, le=180
    )
    flip: Literal["h", "v", "hv", "none"] | None = setting(
        None,
        "Mirror every image in every second epoch: h left-right, v upside down, hv both. none switches it off, and so do class names "
        "that look like digits or directions.",
    )
    zoom: Annotated[tuple[float, float] | None, numbers(",")] = setting(
        None, "Range of random magnification, such as 0.9,1.1. 1,1 switches it off.", metavar="LO,HI"
    )
    shift: float | None = setting(None, "Largest shift as a share of the width, such as 0.1. 0 switches it off.", metavar="X", ge=0, le=0.5)
    color: float | None = setting(
        None,
        "Brightness, contrast and saturation are multiplied by 1 - X to 1 + X, such as 0.3. 0 switches it off.",
        metavar="X",
        ge=0,
        le=1,
    )
    randaugment: Annotated[tuple[Annotated[int, Field(ge=0, le=4)], Annotated[int, Field(ge=0, le=30)]] | None, numbers(",")] = setting(
        None,
        "N of RandAugment's operations (0 to 4) on every image with magnitude M (0 to 30), such as 2,9. 0,0 switches it off.",
        metavar="N,M",
    )
    erase: float | None = setting(
        None, "Share of images in which a random rectangle is erased, such as 0.25. 0 switches it off.", metavar="X", ge=0, le=1
    )
    mixup: float | None = setting(
        None, "Blend pairs of images and their labels, with shares from Beta(A, A), such as 0.2. 0 switches it off.", metavar="A", ge=0
    )
    cutmix: float | None = setting(
        None,
        "Paste a rectangle of another image and mix the labels in proportion, with sizes from Beta(A, A), such as 1. 0 switches it off. "
        "With --mixup each has half of the images.",
        metavar="A",
        ge=0,
    )
    augment_with: tuple[str, ...] = setting(
        (),
        "Augmentation of a package, with its options after a colon, such as blur:sigma=2. Repeat it for more, which follow in this order.",
        metavar="NAME",
    )

    @model_validator(mode="after")
    def _check_zoom(self) -> AugmentConfig:
        if self.zoom is not None and not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(f"`--zoom` (={self.zoom[0]:g},{self.zoom[1]:g}) must be LO,HI with 0 < LO <= HI, such as 0.9,1.1")
        return self

    @field_validator("randaugment", mode="wrap")
    @classmethod
    def _check_operations(cls, value: object, check: ValidatorFunctionWrapHandler) -> object:
        try:
            return check(value)
        except ValidationError:
            raise ValueError("must be N,M, whole numbers from 0 to 4 and from 0 to 30, such as 2,9") from None


class StopConfig(Section):
    """Early stopping, and the choice of the best epoch."""

    patience: int = setting(8, "Epochs without a better model after which training stops. 0 never stops early.", metavar="N", ge=0)
    min_delta: float = setting(0.0, "Smallest improvement of the monitored metric that counts as better.", metavar="X", ge=0)
    monitor: Literal["val_loss", "val_accuracy", "val_macro_f1"] = setting("val_loss", "Metric that chooses the best epoch.")


class RunConfig(Section):
    """The run directory, and the settings that make a run repeatable."""

    out: Path | None = setting(None, "Folder of the run directories. Default: $CNNKIT_RUNS, or ./runs.", metavar="FOLDER", common=True)
    seed: int = setting(
        0, "Seed of the split, the weights, the order, the augmentation and dropout.", metavar="N", common=True, ge=0, lt=2**31
    )
    deterministic: bool = setting(
        default=False, description="Train bit-equal on the same machine: fp32 without a probe, deterministic kernels."
    )
    save_every: Duration = setting(
        300.0,
        "Time between two saves of the state inside an epoch, for cnnkit resume, such as 30s or 10m. 0 saves after every epoch only.",
        metavar="TIME",
        ge=0,
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Device. auto takes a GPU if there is one.", common=True)
    log: Words = setting(
        (), "Trackers of the training, separated by commas: tensorboard, mlflow, wandb, or the name of a plugin.", metavar="A,B"
    )


class TrainConfig(Section):
    """A whole training; `recipe` names the origin of the defaults, `larger` holds tiers for longer budgets or faster machines."""

    recipe: str = "default"
    larger: tuple[Tier, ...] = ()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optim: OptimSettings = OptimSettings()
    augment: AugmentConfig = AugmentConfig()
    stop: StopConfig = StopConfig()
    run: RunConfig = RunConfig()

    @model_validator(mode="after")
    def _check_lengths(self) -> TrainConfig:
        frozen, epochs = self.optim.freeze_epochs, self.optim.epochs
        if frozen and self.model.weights == "none":
            raise ValueError(f"`--freeze-epochs` (={frozen}) needs weights worth keeping: give --weights, or leave it out")
        if self.optim.freeze_norm and self.model.weights == "none":
            raise ValueError("`--freeze-norm` needs weights with statistics worth keeping: give --weights, or --no-freeze-norm")
        if frozen > epochs and not self.optim.budget:
            raise ValueError(f"`--freeze-epochs` (={frozen}) must not exceed --epochs (={epochs})")
        if self.optim.warmup_epochs > epochs and not self.optim.budget:
            raise ValueError(f"`--warmup-epochs` (={self.optim.warmup_epochs:g}) must not exceed --epochs (={epochs})")
        return self

    @model_validator(mode="after")
    def _check_repeatable(self) -> TrainConfig:
        if self.run.deterministic and self.optim.batch_size == "auto":
            raise ValueError("`--batch-size` (=auto) depends on how busy the machine is; with --deterministic give a number, such as 128")
        return self


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in TrainConfig.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}

SECTION_OF = {name: key for key, section in SECTIONS.items() for name in section.model_fields}  # of each setting


def by_section(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sort flat ``{field: value}`` into sections; raises `ConfigError` for a name that is no setting."""
    sections: dict[str, dict[str, Any]] = {}
    for field, value in values.items():
        if field not in SECTION_OF:
            raise ConfigError(f"{field!r} is not a setting of a training{closest(field, SECTION_OF)}")
        sections.setdefault(SECTION_OF[field], {})[field] = value
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
    name = path[1] if len(path) > 1 else path[0]
    if problem["type"] == "extra_forbidden":
        return f"{'.'.join(path)}: there is no such setting{closest(name, SECTION_OF)}"
    return f"`{flag(name)}` (={cut(str(problem['input']), MAX_VALUE_LENGTH)}) {message[0].lower()}{message[1:]}"
