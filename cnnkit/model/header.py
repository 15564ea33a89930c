"""The header of a model file, whose values are checked against limits: a file may come from anywhere."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator

from cnnkit.errors import ModelFileError, cut
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.rules import Rules

FORMAT = 1
MAX_CLASSES = 1_000_000  # ten times the largest data set of labelled images has 20,000
MAX_OPTIONS, MAX_OPTION = 100, 2**20  # of a network; no width or number of layers is larger
MAX_NAME_LENGTH = 300  # characters of an architecture or an option
MAX_PROBLEMS = 3  # that one message names
OWN_PACKAGE = "cnnkit"
LIBRARIES = (OWN_PACKAGE, "torch", "torchvision", "timm", "numpy", "Pillow")  # whose versions each file records
PACKAGE = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"  # the name of a package, as pip takes it


def _number(value: bool | float | str) -> bool | float | str:  # noqa: FBT001 (an option)
    if isinstance(value, int | float) and not abs(value) <= MAX_OPTION:  # NaN is not below either
        raise ValueError(f"must be a number between -{MAX_OPTION} and {MAX_OPTION}")
    return value


Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_LENGTH)]


class ModelHeader(Rules):
    """The header of a model file: the description of the model beside its weights.

    `arch` and `options` rebuild the network. `package` registers `arch` (None: an older file); its version is one of `versions`,
    the package versions of the training. `proof` are the K logits of a fixed canvas (`cnnkit.model.proof`; None: not known).
    `classes` are in index order. `training` describes it: epoch, monitored metric and its value, seed, data fingerprint. The base
    class `Rules` adds the temperature and the limits of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(default=FORMAT, ge=1, le=FORMAT)
    arch: Name
    options: Annotated[dict[Name, Annotated[bool | int | float | str, AfterValidator(_number)]], Field(max_length=MAX_OPTIONS)]
    classes: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=2, max_length=MAX_CLASSES)]
    preprocessing: Preprocessing
    package: Annotated[str, Field(max_length=MAX_NAME_LENGTH, pattern=PACKAGE)] | None = None
    versions: dict[str, str] = Field(default={})
    proof: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = None
    training: dict[str, Any] = Field(default={})

    @model_validator(mode="after")
    def _check_together(self) -> ModelHeader:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: two have the same name")
        self.preprocessing.check_channels()
        self.check_classes(len(self.classes))
        if self.proof is not None and len(self.proof) != len(self.classes):
            raise ValueError(f"proof: must have a logit for each of the {len(self.classes)} classes")
        _check_training(self.training)
        return self


def read_model_header(text: str, path: Path) -> ModelHeader:
    """Return the header in the JSON document `text` of the model file `path`; raises `ModelFileError` for any other text."""
    with _problems_of(path):
        return ModelHeader.model_validate_json(text)


def check_model_header(value: object, path: Path) -> ModelHeader:
    """Return the header of the model file `path` from its JSON `value`; raises `ModelFileError` for a value beyond the limits."""
    with _problems_of(path):
        return ModelHeader.model_validate(value)


@contextmanager
def _problems_of(path: Path) -> Generator[None]:
    """Turn the errors of the body into a `ModelFileError` on the header of `path`."""
    try:
        yield
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc'])) or 'header'}: {one['msg']}" for one in error.errors()[:MAX_PROBLEMS]]
        shown = "; ".join(cut(problem, MAX_NAME_LENGTH) for problem in problems)
        raise ModelFileError(
            f"{path}: this version of cnnkit cannot read the header; it knows formats up to {FORMAT} ({shown}); "
            f"for a file of a newer cnnkit, type: pip install --upgrade cnnkit"
        ) from error


def _check_training(training: Mapping[str, Any]) -> None:
    """Raise `ValueError` unless the entries of `training` that cnnkit itself reads have the types that it writes."""
    epoch, data, varied = training.get("epoch", 0), training.get("data", {}), training.get("augmentation", {})
    if not isinstance(epoch, int) or not 0 <= epoch <= MAX_OPTION:
        raise ValueError("training.epoch: must be the number of an epoch")
    if not isinstance(data, dict) or not isinstance(varied, dict):
        raise ValueError("training.data, training.augmentation: must be JSON objects")  # noqa: TRY004 (pydantic collects a ValueError)
    known = cast("dict[str, Any]", data)
    if known and not (
        isinstance(known.get("name"), str)
        and isinstance(known.get("sha256"), str)
        and isinstance(images := known.get("images"), dict)
        and all(isinstance(count, int) and 0 <= count < 2**53 for count in cast("dict[str, Any]", images).values())
    ):
        raise ValueError("training.data: must have name, sha256 and the numbers of images")
    shift = cast("dict[str, Any]", varied).get("shift", 0)
    if shift is not None and not (isinstance(shift, int | float) and math.isfinite(shift) and 0 <= shift <= 1):
        raise ValueError("training.augmentation.shift: must be a share of the image")
    if not isinstance(cast("dict[str, Any]", varied).get("flip", "none"), str):
        raise ValueError("training.augmentation.flip: must be text")  # noqa: TRY004 (pydantic collects a ValueError)
