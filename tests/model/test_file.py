from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from cnnkit import Architecture
from cnnkit.errors import ModelFileError, PluginError
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.temperature import Calibration
from cnnkit.model.file import ModelHeader, load_model, read_header, rewrite_header, save_model
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.proof import proof_logits
from cnnkit.registry import Entry

HEADER = ModelHeader(
    arch="tiny",
    options={"width": 6},
    classes=("ant", "bee", "Ä,\"'\n"),
    preprocessing=Preprocessing(
        image_size=16, channels=1, resize_mode="pad", interpolation="bicubic", crop=0.875, mean=(0.1,), std=(1 / 3,)
    ),
    temperature=1.7,
    calibration=Calibration("val", 120, 1.7, Estimate(0.1, 0.05, 0.2), Estimate(0.02, 0.0, 0.06), 0.9, 0.7),
    package="some-plugin",
    versions={"python": "3.11.4", "some-plugin": "0.3"},
    training={"epoch": 7, "monitor": "val_loss", "value": 0.25},
)


def build(num_classes: int, in_channels: int, *, width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3), nn.BatchNorm2d(width), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )


def use(monkeypatch: pytest.MonkeyPatch, build: Callable[..., nn.Module], version: str) -> None:
    """Make `tiny` with this `build` the only installed architecture."""
    entry = Entry("cnnkit.architectures", "tiny", "some_plugin:tiny", "some-plugin", version)

    def load(name: str) -> tuple[Architecture, Entry]:
        if name != "tiny":
            raise PluginError(f"no architecture named {name!r} is installed")
        return Architecture(build=build, summary="", image_size=16), entry

    monkeypatch.setattr("cnnkit.model.file.load_architecture", load)


@pytest.fixture(autouse=True)
def tiny_plugin(monkeypatch):
    use(monkeypatch, build, "0.4")


@pytest.fixture
def saved(tmp_path) -> tuple[Path, nn.Module]:
    """Return a model file and its module, with no tensor at its initial value."""
    module = build(3, 1, width=6).eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) * 9)
    path = tmp_path / "best.safetensors"
    save_model(path, module, HEADER)
    return path, module


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_saved_model_is_loaded_bit_by_bit(saved):
    path, module = saved
    model = load_model(str(path))
    assert model.header == HEADER
    assert model.path == path
    assert not model.module.training
    expected, state = module.state_dict(), model.module.state_dict()
    assert list(state) == list(expected)
    assert all(torch.equal(state[name], expected[name]) and state[name].dtype == expected[name].dtype for name in state)
    images = torch.rand(2, 1, 16, 16)
    assert torch.equal(model.module(images), module(images))


def test_saving_again_gives_the_same_bytes(saved, tmp_path):
    path, module = saved
    save_model(tmp_path / "again.safetensors", module, HEADER)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_weights_with_shared_memory_or_another_layout_are_saved(tmp_path):
    module = build(3, 1).to(memory_format=torch.channels_last)
    column = nn.Parameter(module.get_parameter("4.weight").detach()[:, 0])
    module.get_submodule("4").bias = column
    save_model(tmp_path / "m.safetensors", module, HEADER.model_copy(update={"options": {}}))
    assert torch.equal(load_model(tmp_path / "m.safetensors").module.state_dict()["4.bias"], column)


def test_other_programs_can_read_the_header_as_one_json_document(saved):
    raw = saved[0].read_bytes()
    head = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    document = json.loads(head["__metadata__"]["cnnkit"])
    assert document["classes"] == ["ant", "bee", "Ä,\"'\n"]
    assert document["preprocessing"]["image_size"] == 16
    assert document["format"] == 1
    assert document["calibration"]["ece_after"] == {"value": 0.02, "low": 0.0, "high": 0.06}


def test_a_file_without_calibration_has_temperature_1(tmp_path):
    path = tmp_path / "old.safetensors"
    document = json.loads(HEADER.model_dump_json(exclude={"calibration", "temperature"}))
    save_file(build(3, 1, width=6).state_dict(), path, {"cnnkit": json.dumps(document)})
    header = load_model(path).header
    assert (header.temperature, header.calibration) == (1.0, None)


def test_a_temperature_of_0_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    write_with(path, temperature=0.0)
    assert "temperature: Input should be greater than or equal to 0.05" in refusal(path)


def test_reading_the_header_needs_no_architecture(saved, monkeypatch):
    monkeypatch.setattr("cnnkit.model.file.load_architecture", None)
    assert read_header(saved[0]) == HEADER


def test_a_failed_save_keeps_the_older_file(saved, monkeypatch):
    path, module = saved
    before = path.read_bytes()

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_model(path, module, HEADER)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.glob("*.safetensors*")] == [path.name]


def test_a_new_header_does_not_change_the_weights(saved):
    path, module = saved
    before = path.read_bytes()
    rewrite_header(path, HEADER.model_copy(update={"temperature": 0.25}))
    model = load_model(path)
    assert model.header == HEADER.model_copy(update={"temperature": 0.25})
    state = module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.module.state_dict().items())
    rewrite_header(path, HEADER)
    assert path.read_bytes() == before


def test_a_failed_write_of_a_header_keeps_the_file(saved, monkeypatch):
    path = saved[0]
    before = path.read_bytes()

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        rewrite_header(path, HEADER.model_copy(update={"temperature": 2.0}))
    assert path.read_bytes() == before


def test_bare_weights_get_no_header(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    before = path.read_bytes()
    with pytest.raises(ModelFileError, match="bare weights without a cnnkit header"):
        rewrite_header(path, HEADER)
    assert path.read_bytes() == before


def test_a_missing_file_is_refused_with_a_next_step(tmp_path):
    message = refusal(tmp_path / "nowhere.safetensors")
    assert "no such model file; name a run, its folder or a best.safetensors (list runs with: cnnkit runs)" in message


def test_a_folder_is_refused(tmp_path):
    assert "no such model file; name a run" in refusal(tmp_path)


def test_a_text_file_is_refused(tmp_path):
    path = tmp_path / "notes.safetensors"
    path.write_text("these are not weights")
    message = refusal(path)
    assert "not a cnnkit model file" in message
    assert "expected a best.safetensors written by cnnkit train" in message


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.safetensors"
    path.touch()
    assert "not a cnnkit model file" in refusal(path)


@pytest.mark.parametrize("kept", [4, 100, -1])
def test_a_truncated_file_is_refused(saved, kept):
    path = saved[0]
    path.write_bytes(path.read_bytes()[:kept])
    assert ("damaged" if kept < 0 else "not a cnnkit model file") in refusal(path)


def test_the_error_for_bare_weights_names_the_flag_for_them(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    message = refusal(path)
    assert "bare weights without a cnnkit header" in message
    assert f"cnnkit train --weights {path}" in message


def write_with(path: Path, **changes: object) -> None:
    document = {**json.loads(HEADER.model_dump_json()), **changes}
    save_file(build(3, 1, width=6).state_dict(), path, {"cnnkit": json.dumps(document)})


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "new.safetensors"
    write_with(path, format=2)
    message = refusal(path)
    assert "cannot read the header; it knows formats up to 1 (format: Input should be less than or equal to 1)" in message
    assert "pip install --upgrade cnnkit" in message


def test_a_header_with_an_unknown_field_or_without_classes_is_refused(tmp_path):
    path = tmp_path / "odd.safetensors"
    write_with(path, colour="blue", classes=None)
    message = refusal(path)
    assert "colour: Extra inputs are not permitted" in message
    assert "classes: Input should be a valid array" in message


def test_an_architecture_that_is_not_installed_is_an_error(tmp_path):
    path = tmp_path / "m.safetensors"
    write_with(path, arch="gone")
    with pytest.raises(PluginError, match="no architecture named 'gone' is installed"):
        load_model(path)


def test_the_error_for_weights_that_do_not_fit_names_the_versions(tmp_path):
    path = tmp_path / "m.safetensors"
    write_with(path, options={"width": 5})
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    assert "the weights do not fit 'tiny'; the file was written with some-plugin 0.3; installed: some-plugin 0.4" in str(caught.value)
    assert "to use this model, type: pip install some-plugin==0.3 (" in str(caught.value)


def test_the_error_for_an_architecture_that_is_not_installed_names_its_package(tmp_path):
    path = tmp_path / "m.safetensors"
    write_with(path, arch="gone")
    with pytest.raises(PluginError) as caught:
        load_model(path)
    assert f"{path}: needs 'gone' of some-plugin 0.3; installed: some-plugin (missing); type: pip install some-plugin==0.3" in str(
        caught.value
    )


def sigmoid(num_classes: int, in_channels: int, *, width: int = 4) -> nn.Sequential:
    """Return a network for the weights of `build` that computes something else."""
    layers = build(num_classes, in_channels, width=width)
    layers[2] = nn.Sequential(nn.Sigmoid(), nn.AdaptiveAvgPool2d(1))
    return layers


def with_logits(module: nn.Module) -> ModelHeader:
    return HEADER.model_copy(update={"proof": proof_logits(module, HEADER.preprocessing)})


def test_a_network_that_still_computes_its_logits_is_loaded(saved):
    path, module = saved
    save_model(path, module, with_logits(module))
    header = load_model(path).header
    assert header.proof is not None
    assert len(header.proof) == 3


def test_a_network_that_computes_other_logits_is_refused_with_both_versions(saved, monkeypatch):
    path, module = saved
    save_model(path, module, with_logits(module))
    use(monkeypatch, sigmoid, version="0.4")
    message = refusal(path)
    assert "the network 'tiny' computes other logits than after its training (by " in message
    assert "the file was written with some-plugin 0.3; installed: some-plugin 0.4" in message
    assert message.endswith("to use this model, type: pip install some-plugin==0.3")


def test_other_logits_of_the_same_version_are_changed_code(saved, monkeypatch):
    path, module = saved
    save_model(path, module, with_logits(module))
    use(monkeypatch, sigmoid, version="0.3")
    message = refusal(path)
    assert "installed: some-plugin 0.3, so its code has changed under the same version: reinstall some-plugin as it was" in message


def test_an_older_file_without_logits_is_loaded(saved, monkeypatch):
    use(monkeypatch, sigmoid, version="0.4")
    assert load_model(saved[0]).header.proof is None


def test_logits_that_are_no_longer_finite_are_refused(saved):
    path, module = saved
    header = with_logits(module)
    with torch.no_grad():
        module.get_parameter("4.bias").fill_(torch.nan)
    save_model(path, module, header)
    assert "(they are no numbers)" in refusal(path)


def test_a_network_that_fails_on_the_test_image_is_an_error_of_its_package(saved, monkeypatch):
    path, module = saved
    save_model(path, module, with_logits(module))

    def failing(num_classes: int, in_channels: int, *, width: int = 4) -> nn.Module:
        layers = build(num_classes, in_channels, width=width)
        layers.register_forward_pre_hook(lambda *_: 1 / 0)
        return layers

    use(monkeypatch, failing, version="0.4")
    with pytest.raises(PluginError, match=r"'tiny' of some-plugin 0\.4 fails on a test image: ZeroDivisionError"):
        load_model(path)


@pytest.mark.parametrize(("proof", "problem"), [([1.0], "a logit for each of the 3 classes"), ([1.0, "x", 2.0], "proof.1"), (3, "proof")])
def test_recorded_logits_have_limits(tmp_path, proof, problem):
    path = tmp_path / "odd.safetensors"
    write_with(path, proof=proof)
    assert problem in refusal(path)


def test_a_recorded_package_is_a_name_that_pip_takes(tmp_path):
    path = tmp_path / "odd.safetensors"
    write_with(path, package="--index-url=https://example.org x")
    assert "package: String should match pattern" in refusal(path)


class Shared(nn.Module):
    """A network with a layer under two names, two layers with one weight, and views of one memory."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        layer = nn.Linear(width, width)
        self.layers = nn.ModuleList([nn.Linear(1, width), layer, nn.Linear(width, width), layer])
        self.tied = nn.Linear(width, width)
        self.tied.weight = layer.weight
        self.flat = nn.Parameter(layer.weight.detach().view(-1))
        self.register_buffer("whole", torch.arange(12.0).view(3, 4))
        self.register_buffer("row", self.get_buffer("whole")[1])
        self.register_buffer("expanded", torch.ones(1).expand(5))
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = images.mean((2, 3))
        for layer in self.layers:
            values = layer(values)
        return self.head(self.tied(values)) + self.flat.sum() + self.get_buffer("row").sum()


def shared(num_classes: int, in_channels: int, *, width: int = 4) -> Shared:
    return Shared(num_classes, width)


@pytest.mark.parametrize("width", [6, 40])  # the larger one is outlined first
def test_tensors_with_several_names_are_stored_once_and_get_all_names(tmp_path, monkeypatch, width):
    use(monkeypatch, shared, version="0.3")
    module = shared(3, 1, width=width).eval()
    path = tmp_path / "m.safetensors"
    header = with_logits(module).model_copy(update={"options": {"width": width}})
    save_model(path, module, header)
    stored = load_file(path)
    assert {"layers.1.weight", "layers.1.bias"} <= set(stored)
    assert not {"layers.3.weight", "layers.3.bias", "tied.weight"} & set(stored)
    loaded = load_model(path).module
    expected = module.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    assert loaded.get_parameter("tied.weight") is loaded.get_parameter("layers.3.weight")


def test_a_rebuilt_network_that_shares_less_does_not_fit(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    save_model(path, shared(3, 1, width=6), HEADER)

    def split(num_classes: int, in_channels: int, *, width: int = 4) -> nn.Module:
        module = shared(num_classes, in_channels, width=width)
        module.tied = nn.Linear(width, width)
        return module

    use(monkeypatch, split, version="0.4")
    assert 'Missing key(s) in state_dict: "tied.weight"' in refusal(path)
