"""Weights from files: loading, adapting, reporting and refusing them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.model.head import head_parameters
from cnnkit.model.weights import load_weights, read_weights, unfold_buffers, with_aliases, without_aliases


def network(num_classes: int = 10, channels: int = 3) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, 4, 3),
            norm=nn.BatchNorm2d(4),
            pool=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            body=nn.Linear(4, 6),
            head=nn.Linear(6, num_classes),
        )
    )


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: torch.full_like(tensor, 3) for name, tensor in module.state_dict().items()}


def test_all_tensors_are_loaded_if_all_fit() -> None:
    module = network()
    report = load_weights(module, weights(module))
    assert (report.loaded, report.skipped, report.missing, report.unexpected) == (len(module.state_dict()), (), (), ())
    assert all(bool((tensor == 3).all()) for tensor in module.state_dict().values())
    assert report.describe("net.pth") == "net.pth: loaded 11 tensors"


def test_a_head_of_another_shape_stays_as_built() -> None:
    module = network(num_classes=2)
    head = module.get_parameter("head.weight").clone()
    report = load_weights(module, weights(network(num_classes=1000)))
    assert report.skipped == ("head.weight", "head.bias")
    assert report.loaded == 9
    assert torch.equal(module.get_parameter("head.weight"), head)
    assert bool((module.get_parameter("body.weight") == 3).all())
    assert report.describe("net.pth") == "net.pth: loaded 9 tensors; 2 left as built, other shape or classes (head.weight, head.bias)"


def test_names_in_model_or_file_alone_are_reported() -> None:
    module = network()
    given = weights(module)
    given["aux.weight"] = given.pop("body.bias")
    report = load_weights(module, given)
    assert (report.missing, report.unexpected) == (("body.bias",), ("aux.weight",))
    assert (
        report.describe("w")
        == "w: loaded 10 tensors; 1 of the model not in the file (body.bias); 1 of the file not in the model (aux.weight)"
    )


def test_a_tensor_of_several_names_is_loaded_by_any_of_them() -> None:
    layer = nn.Linear(2, 2)
    report = load_weights(nn.Sequential(layer, nn.ReLU(), layer), {"2.weight": torch.ones(2, 2), "0.bias": torch.ones(2)})
    assert (report.loaded, report.missing) == (4, ())
    assert bool((layer.weight == 1).all())


def test_a_batchnorm_counter_is_never_missing() -> None:
    given = weights(network())
    del given["norm.num_batches_tracked"]
    assert load_weights(network(), given).missing == ()


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_dropped(prefix: str) -> None:
    given = {prefix + name: tensor for name, tensor in weights(network()).items()}
    assert load_weights(network(), given).loaded == 11


def test_a_prefix_that_the_model_has_too_is_kept() -> None:
    module = nn.ModuleDict({"model": network()})
    assert load_weights(module, weights(module)).loaded == 11


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_wrapped_state_dicts_are_unwrapped(key: str) -> None:
    assert load_weights(network(), {key: weights(network()), "epoch": 3}).loaded == 11


def test_a_gray_model_gets_the_sum_over_rgb_weights() -> None:
    gray, rgb = network(channels=1), network(channels=3)
    assert load_weights(gray, rgb.state_dict()).skipped == ()
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(gray.eval()(image), rgb.eval()(image.expand(-1, 3, -1, -1)))


def test_an_rgb_model_gets_a_third_of_gray_weights_per_channel() -> None:
    gray, rgb = network(channels=1), network(channels=3)
    assert load_weights(rgb, gray.state_dict()).skipped == ()
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(rgb.eval()(image.expand(-1, 3, -1, -1)), gray.eval()(image))


class Positions(nn.Module):
    """A linear layer, and position embeddings of a grid with one class token."""

    num_prefix_tokens = 1

    def __init__(self, size: int) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, size**2 + 1, 4))


def test_position_embeddings_are_resized_to_another_image_size() -> None:
    module, given = Positions(4), Positions(8).state_dict()
    given["pos_embed"] = torch.cat([torch.full((1, 1, 4), 7.0), torch.full((1, 64, 4), 2.0)], dim=1)
    assert load_weights(module, given).skipped == ()
    torch.testing.assert_close(module.pos_embed[:, :1], torch.full((1, 1, 4), 7.0))
    torch.testing.assert_close(module.pos_embed[:, 1:], torch.full((1, 16, 4), 2.0))


def test_weights_of_another_architecture_are_refused_with_the_names_of_both() -> None:
    with pytest.raises(ConfigError) as refused:
        load_weights(network(), {f"layer{index}.weight": torch.zeros(2) for index in range(5)})
    text = str(refused.value)
    assert "0 of the model's 11 tensors are in the file" in text
    assert "The model has conv.weight, conv.bias, norm.weight and 8 more; the file has layer0.weight, layer1.weight" in text
    assert "Was it made for another architecture?" in text
    assert "cnnkit archs" in text


def test_a_refused_load_changes_nothing() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ConfigError, match="2 of the model's 11"):
        load_weights(module, {name: tensor for name, tensor in weights(module).items() if name.startswith("head")})
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "W.PTH"])
def test_weights_are_read_from_their_file(tmp_path: Path, name: str) -> None:
    given = weights(network())
    path = tmp_path / name
    save_file(given, path) if path.suffix == ".safetensors" else torch.save(given, path)
    read = read_weights(path)
    assert read.keys() == given.keys()
    assert all(torch.equal(read[key], given[key]) for key in given)


def test_only_the_state_dict_of_a_checkpoint_is_read(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": weights(network()), "optimizer": {"state": {}}, "epoch": 7}, path)
    assert read_weights(path).keys() == network().state_dict().keys()


class Unknown:
    """A class that the weights-only mode must not import."""


def unreadable(folder: Path) -> dict[str, Path]:
    files = {
        name: folder / name for name in ("absent.pth", "notes.txt", "text.pth", "text.safetensors", "object.pth", "cut.pth", "list.pth")
    }
    for name in ("notes.txt", "text.pth", "text.safetensors"):
        files[name].write_text("no weights here, only words\n")
    torch.save({"model": Unknown()}, files["object.pth"])
    torch.save(weights(network()), files["cut.pth"])
    files["cut.pth"].write_bytes(files["cut.pth"].read_bytes()[:500])
    torch.save([1, 2, 3], files["list.pth"])
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.pth", "no such weights file; --weights takes a .safetensors, .pth or .pt file, or the word pretrained"),
        ("notes.txt", "weights are read from .safetensors, .pth or .pt files, not .txt"),
        ("text.pth", "not a weights file written by torch.save, or damaged"),
        ("text.safetensors", "not a safetensors file"),
        ("object.pth", "holds pickled Python objects beside tensors; loading them could run code, so it is refused"),
        ("object.pth", "torch.save(model.state_dict(), 'weights.pth')"),
        ("cut.pth", "not a weights file written by torch.save, or damaged"),
        ("list.pth", "holds no named tensors; expected a state dict"),
    ],
)
def test_a_file_without_weights_is_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError) as refused:
        read_weights(unreadable(tmp_path)[name])
    assert str(tmp_path / name) in str(refused.value)
    assert message in str(refused.value)


def test_the_head_is_the_last_layer_with_one_output_per_class() -> None:
    assert head_parameters(network(num_classes=10), 10) == {"head.weight", "head.bias"}
    assert head_parameters(network(num_classes=6), 6) == {"head.weight", "head.bias"}


def test_the_head_may_be_a_convolution() -> None:
    module = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Conv2d(5, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert head_parameters(module, 2) == {"1.weight", "1.bias"}


def test_a_network_may_name_its_head() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.decoy = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)
            self.classifier: Any = (self.one, self.two)

        def get_classifier(self) -> Any:
            return self.classifier

    named = Named()
    assert head_parameters(named, 2) == {"one.weight", "one.bias", "two.weight", "two.bias"}
    named.classifier = named.one
    assert head_parameters(named, 2) == {"one.weight", "one.bias"}
    named.classifier = nn.Identity()
    assert head_parameters(named, 2) == {"decoy.weight", "decoy.bias"}


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Sequential has no Linear or Conv2d layer with 7 outputs.*--freeze-epochs 0"):
        head_parameters(network(num_classes=10), 7)


def test_the_head_of_a_timm_network_is_found() -> None:
    from cnnkit.architectures.timm_family import get

    assert head_parameters(get("mobilenetv3_small_050").build(7, 3), 7) == {"classifier.weight", "classifier.bias"}
    assert head_parameters(get("convnext_atto").build(7, 3), 7) == {"head.fc.weight", "head.fc.bias"}


def twice(device: str = "cpu") -> nn.Sequential:
    layer = nn.Linear(3, 3, device=device)
    return nn.Sequential(layer, nn.ReLU(), layer)


def test_a_tensor_with_two_names_keeps_the_first() -> None:
    assert list(without_aliases(twice().state_dict())) == ["0.weight", "0.bias"]


def test_views_of_one_memory_become_tensors_of_their_own() -> None:
    whole = torch.arange(6.0).view(2, 3)
    kept = without_aliases({"whole": whole, "row": whole[0], "column": whole[:, 0], "flat": whole.view(-1), "again": whole[0]})
    assert list(kept) == ["whole", "row", "column", "flat"]
    assert all(tensor.is_contiguous() for tensor in kept.values())
    assert len({tensor.data_ptr() for tensor in kept.values()}) == 4
    assert kept["column"].tolist() == [0, 3]


def test_one_name_fills_the_others_whichever_it_is() -> None:
    module = twice()
    weight, bias = torch.ones(3, 3), torch.ones(3)
    filled = with_aliases({"2.weight": weight, "0.bias": bias, "other": bias}, module)
    assert {name: id(tensor) for name, tensor in filled.items()} == {
        "0.weight": id(weight),
        "2.weight": id(weight),
        "0.bias": id(bias),
        "2.bias": id(bias),
        "other": id(bias),
    }


def test_tensors_without_memory_are_told_apart() -> None:
    filled = with_aliases({"0.weight": torch.ones(3, 3)}, twice("meta"))
    assert set(filled) == {"0.weight", "2.weight"}


def test_networks_that_share_nothing_are_left_alone() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    state = module.state_dict()
    assert list(without_aliases(state)) == list(state)
    assert set(with_aliases({"0.weight": torch.ones(3, 3)}, module)) == {"0.weight"}


def test_expanded_buffers_get_memory_and_others_keep_theirs() -> None:
    module = nn.BatchNorm1d(4)
    module.register_buffer("mask", torch.ones(1).expand(4))
    mean = module.running_mean
    unfold_buffers(module)
    assert module.get_buffer("mask").stride() == (1,)
    assert module.running_mean is mean
    module.load_state_dict(module.state_dict())
