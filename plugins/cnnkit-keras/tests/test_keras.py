"""Tests of the plugin: the networks keep the contract, train and resume as torch networks do, and their files reach TensorFlow."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import cnnkit_keras
import numpy as np
import pytest
import torch
from cnnkit_keras import FromKeras, KerasClassifier, build, import_keras, keras_cnn, main
from torch import nn
from torch.nn import functional as F

from cnnkit import CnnkitError
from cnnkit.cli.app import main as cnnkit_main
from cnnkit.engine.fit import EpochResult
from cnnkit.engine.replicas import Replicas, draws_by_itself
from cnnkit.errors import ModelFileError
from cnnkit.explain.layers import spatial_layers
from cnnkit.exporters.opening import is_exported, load_exporter, open_classifier
from cnnkit.exporters.parity import sample_photos
from cnnkit.model.file import load_model
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.registry import load_architecture
from cnnkit.testing import check_architecture

SMALL: dict[str, Any] = {"width": 4, "blocks": 2, "dense": 8, "image_size": 16}
OPTIONS = ("width=4", "blocks=2", "dense=16", "batch_norm=true")
TRAIN = (
    *("train", "--data", "digits", "--arch", "keras-cnn", "--image-size", "16", "--precision", "fp32", "--patience", "0"),
    *(word for option in OPTIONS for word in ("--set", option)),
)
PARITY = 1e-5


def small(*, seed: int = 0, **options: Any) -> FromKeras:
    torch.manual_seed(seed)
    network = build(5, 3, **{**SMALL, **options})
    assert isinstance(network, FromKeras)
    return network


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run directory of two epochs on the digits."""
    runs = tmp_path_factory.mktemp("trained")
    assert cnnkit_main([*TRAIN, "--epochs", "2", "--out", str(runs)]) == 0
    return runs / "001-keras-cnn"


@pytest.fixture(scope="module")
def keras_file(run: Path) -> Path:
    assert main([str(run), str(run / "export" / "model.keras")]) == 0
    return run / "export" / "model.keras"


@pytest.mark.parametrize("batch_norm", [False, True])
def test_keras_cnn_keeps_the_contract(batch_norm: bool) -> None:
    def narrow(num_classes: int, in_channels: int, *, image_size: int = 0) -> nn.Module:
        """Return the network for images of `image_size` pixels."""
        return build(num_classes, in_channels, width=8, batch_norm=batch_norm, image_size=image_size)

    check_architecture(replace(keras_cnn, build=narrow), "keras-cnn")


def test_cnnkit_finds_network_and_exporter_by_name() -> None:
    architecture, entry = load_architecture("keras-cnn")
    assert "Keras" in architecture.summary
    assert entry.package == "cnnkit-keras"
    assert load_exporter("keras").suffix == ".keras"
    assert is_exported(Path("model.keras"))


def test_each_tensor_has_one_name_that_only_the_layers_determine() -> None:
    names = list(small(batch_norm=True).state_dict())
    assert names == list(small(batch_norm=True, seed=1).state_dict())
    assert names[:5] == ["conv1.kernel", "norm1.gamma", "norm1.beta", "norm1.moving_mean", "norm1.moving_variance"]
    assert [name for name in names if "seed" in name or "torch_params" in name] == []
    parameters = dict(small(batch_norm=True).named_parameters())
    assert not any("moving" in name for name in parameters), "statistics are buffers"


def test_logits_are_those_of_the_same_torch_network() -> None:
    from cnnkit.architectures.custom_cnn import custom_cnn

    network, reference = build(5, 3, width=4, dense=8, image_size=32).eval(), custom_cnn.build(5, 3, width=4, dense=8).eval()
    theirs = dict(network.named_parameters())
    convolutions = [layer for layer in reference if isinstance(layer, nn.Conv2d)]
    matrices = [layer for layer in reference if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        for index, layer in enumerate(convolutions, start=1):
            layer.weight.copy_(theirs[f"conv{index}.kernel"].permute(3, 2, 0, 1))
            theirs[f"conv{index}.bias"].add_(index)
            layer.get_parameter("bias").copy_(theirs[f"conv{index}.bias"])
        channels_first = theirs["dense.kernel"].view(4, 4, 16, 8).permute(3, 2, 0, 1)  # Keras flattens (H, W, C), torch (C, H, W)
        matrices[0].weight.copy_(channels_first.reshape(8, -1))
        matrices[1].weight.copy_(theirs["logits.kernel"].T)
        for layer, name in zip(matrices, ("dense", "logits"), strict=True):
            layer.bias.copy_(theirs[f"{name}.bias"])
        images = torch.randn(3, 3, 32, 32)
        torch.testing.assert_close(network(images), reference(images), rtol=1e-4, atol=1e-4)


def test_dropout_follows_torchs_generator_and_eval_mode_has_none() -> None:
    network, images = small(), torch.rand(4, 3, 16, 16)
    torch.manual_seed(3)
    one, other = network(images), network(images)
    torch.manual_seed(3)
    again = network(images)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))], ids=["deepcopy", "pickle"])  # noqa: S301
def test_a_copy_is_equal_and_independent(copied: Callable[[nn.Module], nn.Module]) -> None:
    network, images = small(batch_norm=True), torch.rand(4, 3, 16, 16)
    network.train()(images)  # moves the statistics
    network.eval()
    network.get_parameter("dense.kernel").requires_grad_(False)
    before = torch.get_rng_state()
    twin = copied(network)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(twin(images), network(images))
    assert not twin.training
    assert [one.requires_grad for one in twin.parameters()] == [one.requires_grad for one in network.parameters()]
    logits = network(images)
    with torch.no_grad():
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.add_(1)
    twin.train()(images)
    assert torch.equal(network(images), logits)


def test_statistics_stay_with_their_buffers_when_the_module_moves() -> None:
    network, images = small(batch_norm=True), torch.rand(4, 3, 16, 16)
    network._apply(torch.clone)  # pyright: ignore[reportPrivateUsage]  # as a move to a GPU does
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network.train()(images)
    assert not any(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())


def test_replicas_of_a_training_are_repeatable_or_refused() -> None:
    """Replicas share parameters and average buffers; a network that draws random numbers gets none."""
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 5
    assert draws_by_itself(small(), images[:2])
    network = small(batch_norm=True, dropout=0.0)
    assert not draws_by_itself(network, images[:2])

    def loss(part: nn.Module, some: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = part(some)
        return F.cross_entropy(logits, own) * len(own) / len(labels), logits

    def trained() -> list[torch.Tensor]:
        model = copy.deepcopy(network).train()
        replicas = Replicas(model, 2, 1)
        for _ in range(3):
            replicas.gradients(images, labels, loss)
        return [*(parameter.grad for parameter in model.parameters() if parameter.grad is not None), *model.buffers()]

    assert all(torch.equal(one, other) for one, other in zip(trained(), trained(), strict=True))


def test_a_network_for_the_meta_device_takes_no_memory() -> None:
    with torch.device("meta"):
        network = build(5, 3, batch_norm=True)
    assert {tensor.device.type for tensor in network.state_dict().values()} == {"meta"}


def test_maps_of_all_layers_are_found_channels_last() -> None:
    layers = spatial_layers(small(batch_norm=True).eval(), torch.rand(2, 3, 16, 16))
    assert [layer.name for layer in layers] == ["conv1", "norm1", "relu1", "pool1", "conv2", "norm2", "relu2", "pool2"]
    assert {layer.grid.layout for layer in layers} == {"last"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": 5}, "5 poolings leave nothing of images of 16 px; use at most 4 blocks"),
        ({"dropout": 1.0}, "must be at least 0 and below 1"),
        ({"width": 0}, "--set width=0: must be at least 1"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CnnkitError, match=re.escape(message)):
        small(**options)


def test_another_backend_is_refused() -> None:
    script = "import types, sys\nimport cnnkit_keras\n"
    script += "keras = types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: 'jax'))\n"
    script += "sys.modules['keras'] = keras\ncnnkit_keras.import_keras()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "keras runs on the backend 'jax' in this process" in done.stderr
    assert "KERAS_BACKEND=torch" in done.stderr


def test_importing_the_plugin_loads_no_keras_and_importing_keras_prints_nothing() -> None:
    script = "import sys, cnnkit_keras\nassert 'keras' not in sys.modules\ncnnkit_keras.import_keras()"
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_resumed_run_has_every_byte_of_an_uninterrupted_one(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnkit.report.terminal.live import EpochTable

    whole = EpochTable.add

    def interrupted(self: EpochTable, epoch: EpochResult) -> None:
        whole(self, epoch)
        raise KeyboardInterrupt

    command = [*TRAIN, "--epochs", "2", "--out", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(EpochTable, "add", interrupted)
        assert cnnkit_main(command) == 130
    assert cnnkit_main(["resume", str(tmp_path / "001-keras-cnn")]) == 0
    assert (tmp_path / "001-keras-cnn" / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


def test_the_trained_network_is_exported_to_onnx_and_explained(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    image = np.linspace(0, 255, 20 * 20 * 3).reshape(20, 20, 3).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    assert cnnkit_main(["export", "--onnx", "--model", str(run), "--out", str(tmp_path / "model.onnx")]) == 0
    assert json.loads((tmp_path / "parity.json").read_text("utf-8"))["max_abs_probability_difference"] <= PARITY
    assert cnnkit_main(["explain", str(tmp_path / "image.png"), "--model", str(run)]) == 0
    assert json.loads((run / "explain" / "explain.json").read_text("utf-8"))["layer"] == "relu2"


def test_the_keras_file_predicts_as_the_model_does(run: Path, keras_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    photos = sample_photos(6)
    expected = TorchClassifier(load_model(run / "best.safetensors")).probabilities(photos)
    found = open_classifier(keras_file)
    assert np.abs(found.probabilities(photos) - expected).max() <= PARITY
    assert found.classes == tuple(str(digit) for digit in range(10))
    [certificate] = keras_file.parent.glob("*parity.json")
    assert json.loads(certificate.read_text("utf-8"))["max_abs_probability_difference"] <= PARITY
    capfd.readouterr()
    assert cnnkit_main(["eval", "--model", str(keras_file), "--json"]) == 0
    measured = json.loads(capfd.readouterr().out)
    assert cnnkit_main(["eval", "--model", str(run), "--json"]) == 0
    assert measured["accuracy"] == json.loads(capfd.readouterr().out)["accuracy"]


def test_the_keras_file_names_classes_and_preprocessing(keras_file: Path) -> None:
    with zipfile.ZipFile(keras_file) as archive:
        facts = json.loads(archive.read("cnnkit.json"))
    assert json.loads(facts["classes"]) == [str(digit) for digit in range(10)]
    assert json.loads(facts["preprocessing"])["image_size"] == 16


def test_a_file_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.keras").write_bytes(b"no zip")
    with pytest.raises(ModelFileError, match=r"other\.keras: not a \.keras file that cnnkit wrote .*python -m cnnkit_keras RUN"):
        KerasClassifier(tmp_path / "other.keras")


def test_a_network_of_torch_has_no_keras_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cnnkit_main([*TRAIN[:3], "--arch", "custom-cnn", "--set", "width=2", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert main([str(tmp_path / "001-custom-cnn"), str(tmp_path / "model.keras")]) == 2
    assert "'custom-cnn' is not written in Keras" in capsys.readouterr().err
    assert not (tmp_path / "model.keras").exists()


def test_another_suffix_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["runs/001-keras-cnn", "model.h5"])
    assert "needs the suffix .keras, as in model.keras" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_tensorflow_writes_savedmodel_and_tflite_that_predict_as_the_model(keras_file: Path, tmp_path: Path) -> None:
    """The five lines of the README, in a process whose Keras runs on TensorFlow."""
    canvases = np.random.default_rng(0).integers(0, 256, (32, 3, 16, 16), np.uint8)
    expected = KerasClassifier(keras_file).canvas_probabilities(canvases)
    (tmp_path / "model.keras").write_bytes(keras_file.read_bytes())
    np.save(tmp_path / "canvases.npy", canvases.transpose(0, 2, 3, 1).astype(np.float32))
    (script,) = re.findall(r"```python\n(import tensorflow.*?)```", readme(), re.DOTALL)
    assert len(script.strip().splitlines()) == 6, "five lines and an empty one"
    script += """
import numpy as np
canvases = np.load("canvases.npy")
loaded = tf.saved_model.load("saved_model")
saved = loaded.serve(canvases).numpy()
lite = tf.lite.Interpreter("model.tflite")
lite.resize_tensor_input(lite.get_input_details()[0]["index"], canvases.shape)
lite.allocate_tensors()
lite.set_tensor(lite.get_input_details()[0]["index"], canvases)
lite.invoke()
np.savez("found.npz", keras=model(canvases), saved=saved, lite=lite.get_tensor(lite.get_output_details()[0]["index"]))
"""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    for name in ("keras", "saved", "lite"):
        assert np.abs(found[name] - expected).max() <= PARITY, name


def readme() -> str:
    """Return the README, as the metadata of the installed package hold it."""
    found = metadata.metadata("cnnkit-keras")
    return found["Description"] if "Description" in found else str(found)


def test_the_readmes_own_network_trains() -> None:
    (script,) = re.findall(r"```python\n(from cnnkit_keras.*?)```", readme(), re.DOTALL)
    space: dict[str, object] = {}
    exec(script, space)  # noqa: S102 (the README)
    network = space["build"](4, 1, image_size=12)  # pyright: ignore[reportCallIssue, reportUnknownVariableType]
    F.cross_entropy(network(torch.rand(3, 1, 12, 12)), torch.tensor([0, 1, 2])).backward()
    assert [name for name, _ in network.named_parameters()] == ["conv.kernel", "conv.bias", "logits.kernel", "logits.bias"]
    assert cnnkit_keras.import_keras() is import_keras()
