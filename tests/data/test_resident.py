from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cnnkit.data import batches as batches_module
from cnnkit.data.augment.augment import AugmentationStrength
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.batches import Batches
from cnnkit.data.resident import MAX_RESIDENT_SHARE, ResidentCanvases, make_resident
from cnnkit.data.sources.folder import FolderSource
from cnnkit.data.store.store import StoredRows
from cnnkit.data.store.stream import Canvases, StreamedCanvases
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing

CPU, META = torch.device("cpu"), torch.device("meta")
SIZE, IMAGES = 12, 30
ALL = AugmentationStrength(
    rotate=20, flip="hv", zoom=(0.8, 1.2), shift=0.1, color=0.4, erase=0.25, randaugment=(2, 9), mixup=0.3, cutmix=1.0
)
WAYS = {
    "evaluation": None,
    "plain": AugmentationStrength(rotate=0, flip="none", zoom=(1.0, 1.0), shift=0),
    "moves": AugmentationStrength(rotate=0, flip="h", zoom=(1.0, 1.0), shift=0.2),
    "mixup": AugmentationStrength(rotate=0, flip="h", zoom=(1.0, 1.0), shift=0, mixup=0.4),
    "all": ALL,
}
EXTRA = (ExtraAugmentation("noise", 2, lambda images, draws: images + draws[:, :1, None, None]),)


def random_canvases(count: int = 2 * IMAGES) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (count, 3, SIZE, SIZE), np.uint8)


def make(canvases: Canvases, augmentation: AugmentationStrength | None = ALL, device: torch.device = CPU, **settings: Any) -> Batches:
    """Return batches of every second canvas of 2 `IMAGES`."""
    labels = np.arange(IMAGES) % 5 % 3  # two fifths, two fifths, one fifth
    preprocess = Preprocess(Preprocessing(image_size=SIZE, mean=(0.4,) * 3, std=(0.2,) * 3)).to(device)
    return Batches(
        canvases, 2 * np.arange(IMAGES) + 1, labels, 7, preprocess, device, augmentation=augmentation, classes=3, seed=3, **settings
    )


def resident(batches: Batches, device: torch.device = CPU) -> Batches:
    """Return `batches` from canvases that stay on the device."""
    found = make_resident(batches.canvases, batches.rows, device, free=10**9)
    assert found is not None
    return replace(batches, resident=found)


def assert_equal_epochs(one: Batches, other: Batches, first: int = 0) -> None:
    for number in (1, 2, 4, 4):
        pairs = list(zip(one.epoch(number, first), other.epoch(number, first), strict=True))
        assert len(pairs) == one.steps - first
        for mine, theirs in pairs:
            for value, expected in zip(mine, theirs, strict=True):
                assert value.dtype == expected.dtype
                assert torch.equal(value, expected)


@pytest.mark.parametrize("change", [resident, lambda batches: replace(batches, ahead=True)], ids=["resident", "ahead"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [0, 2, 5])
def test_batches_are_bit_equal_to_those_of_the_cpu(change: Callable[[Batches], Batches], way: str, first: int) -> None:
    plain = make(random_canvases(), WAYS[way])
    assert_equal_epochs(change(plain), plain, first)


@pytest.mark.parametrize("change", [resident, lambda batches: replace(batches, ahead=True)], ids=["resident", "ahead"])
@pytest.mark.parametrize(
    "settings",
    [{"balanced": True}, {"extra": EXTRA}, {"balanced": True, "extra": EXTRA, "part": 1, "parts": 3}],
    ids=["balanced", "extra", "part"],
)
def test_the_sampler_augmentations_of_packages_and_parts_are_bit_equal(
    change: Callable[[Batches], Batches], settings: dict[str, Any]
) -> None:
    plain = make(random_canvases(), ALL, **settings)
    assert_equal_epochs(change(plain), plain)


def test_many_samples_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make(random_canvases())
    expected = list(plain.epoch(1))
    monkeypatch.setattr(batches_module, "MAX_DRAWN_SAMPLES", 4)
    for (images, labels), (others, their_labels) in zip(resident(plain).epoch(1), expected, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, their_labels)


def stored(tmp_path: Path, kind: str) -> Canvases:
    """Return canvases of one kind of storage with equal bytes."""
    canvases = random_canvases()
    if kind == "array":
        return canvases
    np.save(tmp_path / "canvases.npy", canvases)
    mapped = np.load(tmp_path / "canvases.npy", mmap_mode="r")
    if kind == "mapped":
        return mapped
    np.save(tmp_path / "reversed.npy", canvases[::-1])
    return StoredRows(np.load(tmp_path / "reversed.npy", mmap_mode="r"), np.arange(len(canvases))[::-1])


@pytest.mark.parametrize("kind", ["array", "mapped", "rows"])
@pytest.mark.parametrize("mapped_bytes", [2**27, 0], ids=["mapped", "read"])
def test_every_storage_gives_the_same_batches(tmp_path: Path, kind: str, mapped_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnkit.data.store.stream.MAX_MAPPED_BYTES", mapped_bytes)
    plain = make(stored(tmp_path, kind))
    assert_equal_epochs(resident(plain), make(random_canvases()))
    assert_equal_epochs(replace(plain, ahead=True), make(random_canvases()))


def test_canvases_that_are_decoded_again_are_not_kept_but_made_ahead(image_folder) -> None:
    source = FolderSource(image_folder(images=4))
    geometry = Preprocessing(image_size=SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    from cnnkit.data.store.scan import scan

    found = scan(source, source.records, geometry)
    assert found.canvases is not None
    streamed = StreamedCanvases(source, source.records, found.facts, geometry, workers=1)
    assert make_resident(streamed, np.arange(12), CPU, free=10**9) is None
    plain = Batches(found.canvases, np.arange(12), np.arange(12) % 3, 5, Preprocess(geometry), CPU)
    for (images, _), (others, _) in zip(replace(plain, canvases=streamed, ahead=True).epoch(0), plain.epoch(0), strict=True):
        assert torch.equal(images, others)


def test_only_the_asked_rows_are_kept_once_and_only_if_they_fit() -> None:
    canvases, rows = random_canvases(), np.array([5, 1, 5, 9])
    size = 3 * canvases[0].nbytes
    enough = int(np.ceil(size / MAX_RESIDENT_SHARE))
    found = make_resident(canvases, rows, CPU, free=enough)
    assert found is not None
    assert torch.equal(found.canvases, torch.from_numpy(canvases[[1, 5, 9]]))
    assert found.positions[[1, 5, 9]].tolist() == [0, 1, 2]
    assert set(np.delete(found.positions, [1, 5, 9])) == {-1}
    assert make_resident(canvases, rows, CPU, free=enough - 1) is None


@pytest.mark.parametrize(("message", "is_refused"), [("CUDA out of memory. Tried to allocate 2.00 GiB", False), ("no kernel", True)])
def test_memory_that_another_program_took_is_no_error(monkeypatch: pytest.MonkeyPatch, message: str, is_refused: bool) -> None:
    def fail(*_: object, **__: object) -> Tensor:
        raise torch.OutOfMemoryError(message) if not is_refused else RuntimeError(message)

    monkeypatch.setattr(torch, "empty", fail)
    if is_refused:
        with pytest.raises(RuntimeError, match=message):
            make_resident(random_canvases(), np.arange(3), CPU, free=10**9)
    else:
        assert make_resident(random_canvases(), np.arange(3), CPU, free=10**9) is None


class NoCopies(TorchDispatchMode):
    """An error for every copy between two devices; an operator on `meta` that needs the values of a tensor is an error by itself."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {value.device.type for value in args if isinstance(value, Tensor) and value.ndim}
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.ndim and given:
            assert given == {made.device.type}, f"{func} copies from {given} to {made.device.type}"
        return made


@pytest.mark.parametrize("way", WAYS)
def test_no_batch_copies_from_the_host_or_waits_for_the_device(way: str) -> None:
    """The device `meta` has no values, so whatever would wait for them fails."""
    epoch = iter(resident(make(random_canvases(), WAYS[way], META), META).epoch(1))
    images, _ = next(epoch)
    assert (images.device, images.shape) == (META, (6, 3, SIZE, SIZE))
    with NoCopies():
        assert [images.shape[0] for images, _ in epoch] == [6] * 4


def test_the_check_of_copies_sees_them() -> None:
    with NoCopies(), pytest.raises(AssertionError, match=r"copies from \{'cpu'\} to meta"):
        torch.zeros(3).to(META)
    with pytest.raises(RuntimeError):
        torch.zeros(3, device=META).sum().item()
    assert isinstance(resident(make(random_canvases())).resident, ResidentCanvases)
