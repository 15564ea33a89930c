"""The case study's network written in Keras 3, on the torch backend, and the exporter of ``.keras`` files.

Keras takes seconds to import, so it is imported when a network is built or a file is opened, and not with this module.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, get_default_device, int32, nn, no_grad, randint

import cnnkit
from cnnkit import Architecture, CnnkitError
from cnnkit.errors import ModelFileError
from cnnkit.exporters.protocol import Exporter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cnnkit.model.file import Model

IMAGE_SIZE = 64  # px: Flatten then has 8,192 values after three poolings, and 32,768 at 128 px
NORM_MOMENTUM = 0.9  # as in torch; Keras's 0.99 needs hundreds of steps before eval mode predicts as train mode does
MAX_SEED = 2**31 - 1  # Keras keeps seeds as int32
METADATA = "cnnkit.json"  # the member of a .keras file, which is a zip, with classes, preprocessing and rules
BATCH_SIZE = 64  # canvases in one forward pass of a .keras file


def import_keras() -> Any:
    """Return the module `keras` on the torch backend; raises `CnnkitError` if this process uses another backend already."""
    os.environ["KERAS_BACKEND"] = "torch"  # read by the first import of keras
    keras: Any = import_module("keras")
    if keras.config.backend() != "torch":
        raise CnnkitError(
            f"keras runs on the backend {keras.config.backend()!r} in this process, and cnnkit trains on torch; "
            "set KERAS_BACKEND=torch before keras is imported"
        )
    return keras


class FromKeras(nn.Module):
    """A functional Keras model (N, H, W, C) as a torch module that maps images (N, C, H, W) to logits (N, K).

    Each layer of `model` is a submodule under its own name. Its trainable weights are parameters; others, such as the statistics
    of BatchNormalization, are buffers. Keras alone would make all of them parameters, which the replicas of a training share.
    In train mode, torch's generator seeds the random layers anew for each forward pass. The state of that generator is thus all
    that a resumed training needs.
    """

    model: Any  # the Keras model, as its own package knows it
    _device_scope: Any

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._device_scope = import_keras().device
        object.__setattr__(self, "model", model)  # no submodule: each tensor would have two names
        self._buffer_variables: list[tuple[Any, str, Any]] = []
        for layer in model.layers:
            self._register(layer)
        weights = {id(variable) for variable in model.weights}
        self._seeds = [variable for variable in model.variables if id(variable) not in weights]

    def _register(self, layer: Any) -> None:
        for part in list(layer.modules()):
            part._modules.pop("_torch_params", None)  # noqa: SLF001 (Keras's dictionary of all tensors)
            object.__setattr__(part, "_torch_params", {})  # Keras makes no other one
        for variable in layer.weights:
            name = variable.path.removeprefix(f"{layer.name}/").replace(".", "/")
            if variable.trainable:
                layer._parameters[name] = variable.value  # noqa: SLF001 (register_parameter refuses the name of a property)
            else:
                layer._buffers[name] = variable.value.detach()  # noqa: SLF001
                self._buffer_variables.append((layer, name, variable))
        self.add_module(layer.name, layer)
        self._follow_buffers()

    def _follow_buffers(self) -> None:
        """Let Keras use the tensors of the buffers, which torch replaces when it moves a module to another device."""
        for layer, name, variable in self._buffer_variables:
            variable._value = layer._buffers[name]  # noqa: SLF001

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FromKeras:  # noqa: FBT001, FBT002 (torch's signature)
        super()._apply(fn, recurse)
        self._follow_buffers()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the parts of a copy: Keras's configuration and the torch state, without hooks."""
        state = (
            dict(self.state_dict()),
            [module.training for module in self.modules()],
            [parameter.requires_grad for parameter in self.parameters()],
            next((tensor.device for tensor in (*self.parameters(), *self.buffers())), None),
        )
        return _restored, (self.model.get_config(), *state)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        with self._device_scope(str(images.device)):
            if self.training:
                for seed in self._seeds:
                    seed.assign(randint(MAX_SEED // 2, (2,), dtype=int32, device="cpu"))  # Keras adds the two
            return self.model(images.permute(0, 2, 3, 1), training=self.training)

    def get_parameter(self, target: str) -> nn.Parameter:
        """Return the parameter `target`; torch would find Keras's variable of that name."""
        found = dict(self.named_parameters()).get(target)
        if found is None:
            raise AttributeError(f"{self.model.name} has no parameter {target!r}")
        return found

    def get_classifier(self) -> nn.Module:
        """Return the last layer, which ``--freeze-epochs`` trains alone."""
        return self.model.layers[-1]


def _restored(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], training: Sequence[bool], trainable: Sequence[bool], device: Any
) -> FromKeras:
    """Return the network whose `FromKeras.__reduce__` gave the arguments."""
    keras = import_keras()
    with keras.device("cpu"):
        network = FromKeras(keras.Model.from_config(config)).to(device)
    network.load_state_dict(dict(tensors))
    for module, mode in zip(network.modules(), training, strict=True):
        module.training = mode
    for parameter, learns in zip(network.parameters(), trainable, strict=True):
        parameter.requires_grad_(learns)
    return network


def _draw_seed() -> int:
    """Return a seed for Keras, drawn from torch's generator."""
    return int(randint(MAX_SEED, (), device="cpu"))


def build(
    num_classes: int,
    in_channels: int,
    *,
    width: int = 32,
    blocks: int = 3,
    dense: int = 128,
    batch_norm: bool = False,
    dropout: float = 0.5,
    image_size: int = 0,
) -> nn.Module:
    """Return the network; the first of `blocks` blocks has `width` filters, and each later block doubles them.

    `batch_norm` puts BatchNormalization between convolution and ReLU. `dense` is the number of units of the dense layer, and `dropout`
    the share of its outputs that are set to zero. `image_size` is the width and height of the images, which `Flatten` fixes; cnnkit
    fills it in.
    """
    size = image_size or IMAGE_SIZE
    _check_options(width=width, blocks=blocks, dense=dense, dropout=dropout, size=size)
    keras = import_keras()
    keras.utils.clear_session(free_memory=False)  # settings and names that other code left in this process
    layers = keras.layers
    last, fp32 = {"data_format": "channels_last"}, {"dtype": "float32"}  # whatever keras.json says

    def initial() -> dict[str, Any]:
        return {"kernel_initializer": keras.initializers.GlorotUniform(seed=_draw_seed())}

    with keras.device(str(get_default_device())):
        images = maps = keras.Input((size, size, in_channels), name="images", **fp32)
        for block in range(1, blocks + 1):
            filters = width * 2 ** (block - 1)
            conv = layers.Conv2D(filters, 3, padding="same", use_bias=not batch_norm, name=f"conv{block}", **initial(), **last, **fp32)
            maps = conv(maps)
            if batch_norm:
                maps = layers.BatchNormalization(momentum=NORM_MOMENTUM, name=f"norm{block}", **fp32)(maps)
            maps = layers.ReLU(name=f"relu{block}", **fp32)(maps)
            maps = layers.MaxPooling2D(name=f"pool{block}", **last, **fp32)(maps)
        features = layers.Flatten(name="flatten", **last, **fp32)(maps)
        features = layers.Dense(dense, activation="relu", name="dense", **initial(), **fp32)(features)
        features = layers.Dropout(dropout, seed=_draw_seed(), name="dropout", **fp32)(features)
        logits = layers.Dense(num_classes, name="logits", **initial(), **fp32)(features)
        return FromKeras(keras.Model(images, logits, name="keras-cnn"))


def _check_options(*, width: int, blocks: int, dense: int, dropout: float, size: int) -> None:
    if not 0 <= dropout < 1:
        raise CnnkitError(f"--set dropout={dropout}: must be at least 0 and below 1")
    for name, value in (("width", width), ("blocks", blocks), ("dense", dense)):
        if value < 1:
            raise CnnkitError(f"--set {name}={value}: must be at least 1")
    if size < 2**blocks:
        raise CnnkitError(
            f"--set blocks={blocks}: {blocks} poolings leave nothing of images of {size} px; "
            f"use at most {size.bit_length() - 1} blocks, or a larger --image-size"
        )


keras_cnn = Architecture(
    build=build,
    summary="the case study's network written in Keras: Conv2D, MaxPooling2D, Flatten, Dense, Dropout",
    image_size=IMAGE_SIZE,
    reference="https://keras.io",
)


def write(model: Model, path: Path) -> None:
    """Write `model` to `path` as a ``.keras`` file, which maps canvases, float32 (N, S, S, C) in 0..255, to probabilities (N, K).

    Raises `CnnkitError` if Keras did not build the network.
    """
    from cnnkit.exporters.onnx_graph import metadata

    network, header = copy.deepcopy(model.module), model.header
    if not isinstance(network, FromKeras):
        raise CnnkitError(
            f"{model.path}: the architecture {header.arch!r} is not written in Keras, so it has no .keras file; "
            "train one that is, such as --arch keras-cnn, or type: cnnkit export --onnx"
        )
    keras, spec = import_keras(), header.preprocessing
    with keras.device("cpu"), tempfile.TemporaryDirectory() as folder:
        canvas = keras.Input((spec.image_size, spec.image_size, spec.channels), name="canvas", dtype="float32")
        mean, variance = [255 * level for level in spec.mean], [(255 * level) ** 2 for level in spec.std]
        images = keras.layers.Normalization(mean=mean, variance=variance, name="normalise", dtype="float32")(canvas)
        logits = keras.layers.Rescaling(1 / header.temperature, name="temperature", dtype="float32")(network.model(images))
        probabilities = keras.layers.Softmax(name="probabilities", dtype="float32")(logits)
        file = Path(folder) / "model.keras"
        with _quiet():
            keras.Model(canvas, probabilities, name="cnnkit").save(file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(METADATA, json.dumps(metadata(header), ensure_ascii=False))
        shutil.copyfile(file, path)


class KerasClassifier:
    """A ``.keras`` file that `write` wrote, run by Keras on the CPU.

    Raises `ModelFileError` if the file is missing, no ``.keras`` file, or written by another program.
    """

    def __init__(self, path: Path) -> None:
        from cnnkit.model.preprocessing import Preprocessing
        from cnnkit.model.rules import from_metadata

        try:
            with zipfile.ZipFile(path) as archive:
                facts: dict[str, str] = json.loads(archive.read(METADATA))
            self.classes: tuple[str, ...] = tuple(json.loads(facts["classes"]))
            self.rules = from_metadata(facts)
            self.preprocessing = Preprocessing.model_validate_json(facts["preprocessing"])
        except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ModelFileError(
                f"{path}: not a .keras file that cnnkit wrote ({error}); write one with: python -m cnnkit_keras RUN model.keras"
            ) from error
        keras = import_keras()
        self._device_scope: Any = keras.device
        with self._device_scope("cpu"), tempfile.TemporaryDirectory() as folder, _quiet():
            file = shutil.copyfile(path, Path(folder) / "model.keras")  # Keras refuses any other suffix
            self._model: Any = keras.saving.load_model(file, compile=False)

    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Map decoded RGB images, uint8 (H, W, 3) of any and differing sizes, to probabilities (N, K)."""
        from cnnkit.model.canvas import make_canvases

        return self.canvas_probabilities(make_canvases(images, self.preprocessing))

    def canvas_probabilities(self, canvases: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Map canvases, uint8 (N, C, S, S), to probabilities (N, K)."""
        import numpy as np

        nhwc = canvases.transpose(0, 2, 3, 1).astype(np.float32)
        with self._device_scope("cpu"), no_grad():
            parts = [self._model(nhwc[start : start + BATCH_SIZE], training=False).numpy() for start in range(0, len(nhwc), BATCH_SIZE)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *parts])


@contextmanager
def _quiet() -> Generator[None]:
    """Silence the warning that Keras 3.15 causes in numpy 2 when it reads or writes weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation doesn't accept a copy keyword", category=DeprecationWarning)
        yield


keras_exporter = Exporter(
    name="keras",
    summary="one .keras file for Keras and TensorFlow: canvases in, probabilities out",
    write=write,
    open=KerasClassifier,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Export a run as ``python -m cnnkit_keras RUN FILE.keras`` asks; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m cnnkit_keras", description="Export a run of a Keras network to a .keras file.")
    parser.add_argument("run", help="run directory, run name or best.safetensors")
    parser.add_argument("out", type=Path, help="file to write, with the suffix .keras")
    given = parser.parse_args(arguments)
    if given.out.suffix != ".keras":
        parser.error(f"{given.out}: the file needs the suffix .keras, as in {given.out.stem or 'model'}.keras")
    try:
        print(cnnkit.export(given.run, to="keras", out=given.out))  # noqa: T201 (a command)
    except CnnkitError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
