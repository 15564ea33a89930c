from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.data.split import candidates, duplicates
from cnnkit.data.split.duplicates import clusters, exact_groups, near_pairs, near_pairs_between
from cnnkit.data.store.facts import Facts, decode, measure

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def scene(seed: int, size: int = 96) -> Pixels:
    """Return a picture with the spectrum of a photograph, uint8 (size, size, 3): all frequencies, amplitudes of 1 / frequency."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) * size
    noise = random.normal(size=(4, size, size))
    light, *tints = np.fft.ifft2(np.fft.fft2(noise) / np.maximum(frequency, 1)).real
    pixels = light[..., None] + 0.4 * np.stack(tints, axis=-1)
    return (110 + 45 * pixels / pixels.std()).clip(0, 255).astype(np.uint8)


def encoded(pixels: Pixels, quality: int = 95) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def half(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((pixels.shape[1] // 2, pixels.shape[0] // 2)))


def brighter(pixels: Pixels) -> Pixels:
    return (pixels * 1.15).clip(0, 255).astype(np.uint8)


def look(images: Sequence[bytes | Pixels]) -> tuple[Pixels, list[Facts]]:
    facts, thumbnails = measure([decode(image) for image in images])
    return thumbnails, facts


@pytest.fixture(scope="module")
def scenes() -> list[Pixels]:
    return [scene(seed) for seed in range(60)]


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: encoded(pixels, 50),
        lambda pixels: encoded(half(pixels)),
        lambda pixels: encoded(brighter(pixels)),
        lambda pixels: encoded(half(brighter(pixels)), 50),
        lambda pixels: encoded(pixels[4:, 3:-2]),
        lambda pixels: np.stack([pixels[..., 0], (pixels[..., 1] * 0.9).astype(np.uint8), pixels[..., 2]], axis=-1),
    ],
    ids=["quality 50", "half size", "brighter", "all three", "cropped", "tinted"],
)
def test_changed_copies_are_found_and_nothing_else(scenes: list[Pixels], change: Callable[[Pixels], bytes | Pixels]) -> None:
    thumbnails, facts = look([*scenes, *(change(pixels) for pixels in scenes[:20])])
    pairs = near_pairs(thumbnails, facts)
    assert pairs.dtype == np.int64
    assert pairs.tolist() == [[row, 60 + row] for row in range(20)]


def test_many_copies_of_one_picture_do_not_hide_each_other(scenes: list[Pixels]) -> None:
    copies = [encoded(pixels, quality) for pixels in scenes[:5] for quality in (30, 40, 50, 60, 70, 80)]
    thumbnails, facts = look([*scenes, *copies])
    cluster_ids = clusters(len(facts), near_pairs(thumbnails, facts))
    assert cluster_ids.tolist() == [*range(60), *np.repeat(range(5), 6)]


def test_exact_copies_are_groups_represented_by_their_first_row(scenes: list[Pixels]) -> None:
    thumbnails, facts = look([*scenes, scenes[7], scenes[3], scenes[7], encoded(scenes[7], 50)])
    assert exact_groups(facts) == [[3, 61], [7, 60, 62]]
    assert near_pairs(thumbnails, facts).tolist() == [[7, 63]]


def test_unreadable_images_are_in_no_group_and_no_pair(scenes: list[Pixels]) -> None:
    thumbnails, facts = look([*scenes, encoded(scenes[0]), encoded(scenes[1])])
    facts[60] = Facts(error="the file is empty")
    facts[5] = facts[6] = Facts(sha256="", error="the file is truncated")
    assert exact_groups(facts) == []
    assert near_pairs(thumbnails, facts).tolist() == [[1, 61]]


def test_empty_pictures_are_no_copies_of_each_other(scenes: list[Pixels]) -> None:
    def blank(level: int, speck: int) -> Pixels:
        pixels = np.full((64, 64, 3), level, np.uint8)
        pixels[speck:, :32] += 1
        return pixels

    thumbnails, facts = look([*scenes, *(blank(level, speck) for level in (0, 128, 250) for speck in (0, 1, 2))])
    assert near_pairs(thumbnails, facts).tolist() == []


@pytest.mark.parametrize("step", [1, 3, 20])
def test_handwritten_digits_are_no_copies(step: int) -> None:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    levels = np.round(digits.images[::step] * (255 / 16)).astype(np.uint8)
    thumbnails, facts = look([np.repeat(image[:, :, None], 3, axis=2) for image in levels])
    assert near_pairs(thumbnails, facts).tolist() == []


def test_a_shared_motif_is_no_copy() -> None:
    motif = scene(0)
    thumbnails, facts = look([(0.7 * motif + 0.3 * scene(seed)).astype(np.uint8) for seed in range(1, 60)])
    assert near_pairs(thumbnails, facts).tolist() == []


def test_frames_of_a_film_are_one_cluster_with_few_pairs(scenes: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "MAX_PARTNERS", 4)
    random = np.random.default_rng(0)
    film = [(scenes[0] + random.normal(0, 2, scenes[0].shape)).clip(0, 255).astype(np.uint8) for _ in range(150)]
    thumbnails, facts = look([*film, *scenes[1:]])
    pairs = near_pairs(thumbnails, facts)
    assert np.bincount(pairs[:, 0]).max() == 4
    assert (clusters(len(facts), pairs)[:150] == 0).all()


def test_the_lists_of_a_large_set_hold_the_same_copies(scenes: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails, facts = look([*scenes, *(encoded(half(pixels), 50) for pixels in scenes)])
    expected = near_pairs(thumbnails, facts)
    monkeypatch.setattr(candidates, "MAX_EXHAUSTIVE_ROWS", 10)
    monkeypatch.setattr(candidates, "ROWS_PER_LIST", 15)
    lengths: list[int] = []
    search = candidates._search
    monkeypatch.setattr(candidates, "_search", lambda vectors, limits: (lengths.append(len(vectors)), search(vectors, limits))[1])
    assert near_pairs(thumbnails, facts).tolist() == expected.tolist()
    assert len(expected) == 60
    assert sum(lengths) == 2 * 3 * 120  # two passes, each row in three lists
    assert len(lengths) > 2


def test_no_image_and_one_image_have_no_pairs(scenes: list[Pixels]) -> None:
    thumbnails, facts = look(scenes[:1])
    assert near_pairs(thumbnails, facts).shape == (0, 2)
    assert near_pairs(thumbnails[:0], []).shape == (0, 2)
    assert exact_groups([]) == []
    assert clusters(0, np.empty((0, 2), np.int64)).tolist() == []


def test_two_images_alone_are_compared(scenes: list[Pixels]) -> None:
    thumbnails, facts = look([scenes[0], encoded(scenes[0], 50), scenes[1]])
    assert near_pairs(thumbnails, facts).tolist() == [[0, 1]]


def test_near_copies_across_two_sets_are_pairs_of_their_rows(scenes: list[Pixels]) -> None:
    given = look([scenes[9], *(encoded(half(scenes[row])) for row in (3, 5))])[0]
    known = look([*scenes[:8], encoded(scenes[1])])[0]
    across, within = near_pairs_between(given, [*"abc"], known, [str(row) for row in range(9)])
    assert across.tolist() == [[1, 3], [2, 5]]
    assert within.tolist() == [[1, 8]]
    nothing, _ = near_pairs_between(given[:0], [], known, [str(row) for row in range(9)])
    assert nothing.tolist() == []


def test_clusters_are_numbered_by_their_first_row() -> None:
    pairs = np.array([[3, 5], [1, 4], [4, 5], [6, 7]])
    assert clusters(9, pairs).tolist() == [0, 1, 2, 1, 1, 1, 6, 6, 8]
    assert clusters(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_the_version_of_the_method_is_a_number() -> None:
    assert isinstance(duplicates.METHOD_VERSION, int)
