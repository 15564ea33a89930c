from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cnnkit.exporters.parity import sample_photos
from cnnkit.model import torch_classifier as module
from cnnkit.model.file import Model, ModelHeader
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.torch_classifier import TorchClassifier, inference_batch
from cnnkit.model.tta import Views
from cnnkit.registry import load_architecture

HEADER = ModelHeader(
    arch="custom-cnn",
    options={"width": 4, "blocks": 2},
    classes=("ant", "bee", "wasp"),
    preprocessing=Preprocessing(image_size=16, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)),
    temperature=0.5,
)


@pytest.fixture
def model() -> Model:
    """Return a small model with dropout."""
    torch.manual_seed(0)
    network = load_architecture("custom-cnn")[0].build(3, 3, **HEADER.options)
    return Model(network, HEADER, Path("best.safetensors"))  # in training mode: a classifier must not rely on the caller


def test_probabilities_are_the_softmax_of_logits_divided_by_temperature(model):
    photos = sample_photos(5)
    found = TorchClassifier(model).probabilities(photos)
    preprocess = Preprocess(HEADER.preprocessing)
    with torch.inference_mode():
        logits = torch.cat([model.module.eval()(preprocess(torch.tensor(photo)[None])) for photo in photos])
    np.testing.assert_allclose(found, (logits / 0.5).softmax(1).numpy(), rtol=0, atol=1e-6)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert found.std(0).max() > 1e-3


@pytest.mark.parametrize(("device", "image_size", "images"), [("cpu", 32, 256), ("cpu", 224, 20), ("cpu", 4096, 1), ("cuda", 224, 256)])
def test_the_pixels_of_a_batch_on_a_cpu_are_limited(device, image_size, images):
    assert inference_batch(image_size, torch.device(device)) == images


def test_dropout_is_off(model):
    photos = sample_photos(2)
    classifier = TorchClassifier(model)
    np.testing.assert_array_equal(classifier.probabilities(photos), classifier.probabilities(photos))


def test_decoded_images_and_stored_canvases_give_the_same_probabilities(model):
    photos = sample_photos(6)
    classifier = TorchClassifier(model)
    preprocess = Preprocess(HEADER.preprocessing)
    canvases = torch.cat([preprocess.canvas(torch.tensor(photo)[None]) for photo in photos])
    np.testing.assert_array_equal(classifier.canvas_probabilities(canvases), classifier.probabilities(photos))


def test_many_images_are_split_into_batches(model, monkeypatch):
    photos = sample_photos(7)
    classifier = TorchClassifier(model)
    at_once = classifier.probabilities(photos)
    sizes: list[int] = []
    model.module.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    monkeypatch.setattr(module, "MAX_BATCH_SIZE", 3)
    np.testing.assert_allclose(classifier.probabilities(photos), at_once, rtol=0, atol=1e-6)
    assert sizes == [3, 3, 1]


def test_the_logits_are_averaged_over_all_views(model):
    canvases = torch.randint(0, 256, (5, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    views = Views("h", 1)
    found = TorchClassifier(model, views=views).canvas_probabilities(canvases)
    plain = TorchClassifier(model)
    # the softmax of mean logits is the weighted geometric mean of the probabilities, normalised to sum to 1
    logs = sum(weight * np.log(plain.canvas_probabilities(view).astype(np.float64)) for weight, view in views.of(canvases))
    expected = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert np.abs(found - plain.canvas_probabilities(canvases)).max() > 1e-4


def test_decoded_images_get_all_views_too(model):
    photos = sample_photos(3)
    several = TorchClassifier(model, views=Views("h", 1))
    preprocess = Preprocess(HEADER.preprocessing)
    canvases = torch.cat([preprocess.canvas(torch.tensor(photo)[None]) for photo in photos])
    np.testing.assert_array_equal(several.probabilities(photos), several.canvas_probabilities(canvases))


def test_features_come_from_the_plain_view(model):
    canvases = torch.zeros((2, 3, 16, 16), dtype=torch.uint8)
    found = TorchClassifier(model, views=Views("h", 1)).canvas_features(canvases)
    np.testing.assert_array_equal(found, TorchClassifier(model).canvas_features(canvases))


def test_no_images_give_no_rows(model):
    assert TorchClassifier(model).probabilities([]).shape == (0, 3)


def test_read_only_images_are_accepted(model):
    photo = sample_photos(1)[0]
    photo.flags.writeable = False
    assert TorchClassifier(model).probabilities([photo[:, ::-1]]).shape == (1, 3)


def test_arithmetic_is_true_fp32_and_the_setting_is_restored(model):
    seen: list[tuple[bool, torch.dtype, bool]] = []
    model.module.register_forward_hook(
        lambda _, inputs, __: seen.append((torch.backends.cudnn.allow_tf32, inputs[0].dtype, torch.is_inference_mode_enabled()))
    )
    before = torch.backends.cudnn.allow_tf32
    TorchClassifier(model).probabilities(sample_photos(1))
    assert seen == [(False, torch.float32, True)]
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_half_precision_network_gives_float32_probabilities():
    class Half(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)).bfloat16()

    found = TorchClassifier(Model(Half(), HEADER, Path("m"))).probabilities(sample_photos(2))
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


class Small(nn.Module):
    """A network whose device has memory for `fitting` images."""

    def __init__(self, fitting: int, error: RuntimeError) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self._fitting, self._error = fitting, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        if len(images) > self._fitting:
            raise self._error
        return images.mean((2, 3))


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "mps"])
def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered(error):
    photos = sample_photos(11)
    network = Small(3, error)
    classifier = TorchClassifier(Model(network, HEADER, Path("m")))
    found = classifier.probabilities(photos)
    assert network.sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    np.testing.assert_allclose(found, TorchClassifier(Model(Small(99, error), HEADER, Path("m"))).probabilities(photos), atol=1e-6)
    network.sizes.clear()
    classifier.probabilities(photos[:3])
    assert network.sizes == [2, 1]


def test_one_image_that_does_not_fit_is_an_error_and_so_is_any_other_failure():
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        TorchClassifier(Model(Small(0, OUT_OF_MEMORY[0]), HEADER, Path("m"))).probabilities(sample_photos(4))
    broken = Small(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        TorchClassifier(Model(broken, HEADER, Path("m"))).probabilities(sample_photos(4))
    assert broken.sizes == [4]


def test_matrix_products_are_true_fp32_too(model):
    seen: list[bool] = []
    model.module.register_forward_hook(lambda *_: seen.append(bool(torch.backends.cuda.matmul.allow_tf32)))
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        TorchClassifier(model).probabilities(sample_photos(1))
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert seen == [False]


def test_without_a_device_the_network_stays_where_it_is(model):
    assert TorchClassifier(model.to(torch.device("meta")), device=None).device.type == "meta"
    assert TorchClassifier(Model(Small(1, OUT_OF_MEMORY[0]), HEADER, Path("m")), device=None).device.type == "cpu"
