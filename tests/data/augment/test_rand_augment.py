from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import RandAugment

from cnnkit.data.augment import rand_augment as module
from cnnkit.data.augment.rand_augment import rand_augment
from cnnkit.model.preprocessing import PAD_LEVEL

NUMBERS = 28  # fourteen operations, each with two signs
SIZE = 24


@pytest.fixture(params=["members", "all"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the computation of a CPU, and with that of a GPU."""
    if request.param == "all":
        monkeypatch.setattr(module, "_change_members", module._change_all)
    return request.param


def smooth(count: int, channels: int = 3, size: int = SIZE) -> Tensor:
    """Return different pictures that nearly every operation changes."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    planes = torch.stack([30 + 200 * x, 20 + 150 * y * x, 128 + 90 * torch.sin(9 * x + 15 * y)])[:channels]
    return (planes + torch.arange(count)[:, None, None, None] % 9).to(torch.uint8)


def every_case(images: Tensor, magnitude: int) -> Tensor:
    return rand_augment(images, (torch.arange(NUMBERS)[:, None] + 0.5) / NUMBERS, 1, magnitude)


def of_torchvision(image: Tensor, magnitude: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the results of torchvision's RandAugment for `image`: plus, then minus, then the operations without a sign, twice."""
    made: dict[str, list[Tensor]] = {}
    transform = RandAugment(1, magnitude, interpolation=InterpolationMode.BILINEAR, fill=[PAD_LEVEL])
    for name, entry in RandAugment._AUGMENTATION_SPACE.items():
        chosen: Any = (name, entry)
        monkeypatch.setattr(transform, "_get_random_item", lambda _space, chosen=chosen: chosen)
        for sign in (0.9, 0.1):  # torch.rand up to 0.5 means minus
            with monkeypatch.context() as patch:
                patch.setattr(torch, "rand", lambda _size, sign=sign: torch.tensor(sign))
                made.setdefault(name, []).append(transform(image))
    plain = ["Identity", "Posterize", "Solarize", "AutoContrast", "Equalize"]
    directed = [name for name in made if name not in plain]
    return [*(made[name][0] for name in directed), *(made[name][1] for name in directed), *(2 * [made[name][0] for name in plain])]


@pytest.mark.parametrize("magnitude", [0, 9, 14, 30])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("picture", ["smooth", "noise"])
@pytest.mark.usefixtures("way")
def test_the_cases_equal_torchvisions_with_equal_frequency(
    magnitude: int, channels: int, picture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = torch.randint(256, (1, channels, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    image = smooth(1, channels) if picture == "smooth" else noise
    got = every_case(image.expand(NUMBERS, -1, -1, -1), magnitude)
    assert got.dtype == torch.uint8
    for number, (result, expected) in enumerate(zip(got, of_torchvision(image[0], magnitude, monkeypatch), strict=True)):
        apart = (result.int() - expected.int()).abs()
        assert int(apart.max()) <= 1, number  # torchvision's float32 magnitudes change a few pixels by one level
        assert float((apart > 0).float().mean()) < 0.02, number


def test_all_but_identity_changes_a_picture() -> None:
    images = smooth(1).expand(NUMBERS, -1, -1, -1)
    same = [bool((got == image).all()) for got, image in zip(every_case(images, 20), images, strict=True)]
    assert sum(same) == 2  # identity has both numbers
    assert len({got.numpy().tobytes() for got in every_case(images, 20)}) == 23


@pytest.mark.usefixtures("way")
def test_the_variation_of_an_image_does_not_depend_on_its_batch() -> None:
    images, draws = smooth(200), torch.rand((200, 4), generator=torch.Generator().manual_seed(0))
    together = rand_augment(images, draws, 3, 12)
    backwards = rand_augment(images.flip(0), draws.flip(0), 3, 12).flip(0)
    alone = torch.cat([rand_augment(images[row : row + 1], draws[row : row + 1], 3, 12) for row in range(20)])
    assert torch.equal(together, backwards)
    assert torch.equal(together[:20], alone)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [2, 3, 24, 33])
def test_a_gpu_computes_the_bits_of_the_cpu(channels: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, draws = smooth(100, channels, size), torch.rand((100, 4), generator=torch.Generator().manual_seed(3))
    members = rand_augment(images, draws, 3, 17)
    monkeypatch.setattr(module, "_change_members", module._change_all)
    assert torch.equal(rand_augment(images, draws, 3, 17), members)


def test_a_gpu_need_not_wait_for_the_draws() -> None:
    """Tensors on `meta` have no values, so a shape that depends on them is an error."""
    images, draws = smooth(5).to("meta"), torch.rand((5, 4)).to("meta")
    assert rand_augment(images, draws, 2, 9).shape == images.shape
    with pytest.raises(NotImplementedError):
        module._change_members(images, torch.zeros(5, dtype=torch.int64, device="meta"), module._tables(9, SIZE, images.device))


def test_operations_follow_one_another() -> None:
    images, draws = smooth(NUMBERS), torch.rand((NUMBERS, 4), generator=torch.Generator().manual_seed(1))
    once = rand_augment(images, draws, 1, 15)
    assert torch.equal(rand_augment(images, draws, 2, 15), rand_augment(once, draws[:, 1:], 1, 15))
    assert not torch.equal(rand_augment(images, draws, 2, 15), once)


def test_draws_choose_every_operation_equally_often() -> None:
    images = smooth(1, size=8).expand(28_000, -1, -1, -1)
    draws = ((torch.arange(28_000) + 0.5) / 28_000)[:, None]
    looks = Counter(got.numpy().tobytes() for got in rand_augment(images, draws, 1, 20))
    assert sum(looks.values()) == 28_000
    assert all(count % 1000 == 0 for count in looks.values())
    assert max(looks.values()) <= 4000  # some small pictures of 8 pixels look alike


def test_interpolated_images_are_rounded_to_bytes() -> None:
    images = torch.tensor([-0.4, 0.6, 254.4, 255.4]).repeat(16).view(1, 1, 8, 8)
    identity = torch.full((1, 1), 18.5 / NUMBERS)
    assert rand_augment(images, identity, 1, 9).flatten()[:4].tolist() == [0, 1, 254, 255]


def test_the_input_stays_unchanged() -> None:
    images = smooth(NUMBERS)
    before = images.clone()
    assert not np.array_equal(every_case(images, 20).numpy(), before.numpy())
    assert torch.equal(images, before)
