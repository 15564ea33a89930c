from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.data.split import candidates, comparison, crowd, duplicates
from cnnkit.data.split.duplicates import Copies, clusters, exact_groups, find_copies, link_equal, near_pairs_between
from cnnkit.data.store.facts import Facts, decode, measure
from cnnkit.data.store.store import StoredRows

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


def found(images: Sequence[bytes | Pixels]) -> Copies:
    measured = measure([decode(image) for image in images])
    return find_copies(measured.thumbnails, measured.looks, measured.facts)


def pairs_of(images: Sequence[bytes | Pixels]) -> list[list[int]]:
    return found(images).pairs.tolist()


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
    copies = found([*scenes, *(change(pixels) for pixels in scenes[:20])])
    assert copies.pairs.dtype == np.int64
    assert copies.pairs.tolist() == [[row, 60 + row] for row in range(20)]


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("shape", [(96, 96), (96, 72)])
def test_turned_and_mirrored_copies_are_found(scenes: list[Pixels], number: int, shape: tuple[int, int]) -> None:
    images = [pixels[: shape[0], : shape[1]] for pixels in scenes]
    turned_images: list[Pixels] = []
    for pixels in images[:10]:
        moved = np.swapaxes(pixels, 0, 1) if number & 4 else pixels
        turned_images.append(moved[:: -1 if number & 1 else 1, :: -1 if number & 2 else 1])
    copies = found([*images, *(encoded(pixels, 70) for pixels in turned_images)])
    assert copies.pairs.tolist() == [[row, 60 + row] for row in range(10)]
    assert not copies.same.any()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda pixels: encoded(pixels, 80), True),
        (half, True),
        (lambda pixels: encoded(brighter(pixels)), False),
        (lambda pixels: encoded(pixels[4:, 3:-2]), False),
        (lambda pixels: pixels[:, ::-1], False),
    ],
    ids=["re-encoded", "half size", "brighter", "cropped", "mirrored"],
)
def test_only_an_encoded_or_resized_copy_is_the_same_picture(change: Callable[[Pixels], bytes | Pixels], same: bool) -> None:
    pictures = [scene(seed, 160) for seed in range(40)]
    copies = found([*pictures, *(change(pixels) for pixels in pictures[:10])])
    assert len(copies.pairs) == 10
    assert copies.same.tolist() == [same] * 10


def test_many_copies_of_one_picture_do_not_hide_each_other(scenes: list[Pixels]) -> None:
    copies = [encoded(pixels, quality) for pixels in scenes[:5] for quality in (30, 40, 50, 60, 70, 80)]
    cluster_ids = clusters(90, found([*scenes, *copies]).pairs)
    assert cluster_ids.tolist() == [*range(60), *np.repeat(range(5), 6)]


def test_copies_of_copies_are_one_cluster(scenes: list[Pixels]) -> None:
    chain = [scenes[0]]
    for _ in range(4):
        chain.append(np.asarray(Image.fromarray(chain[-1][3:-1, 2:-2]).resize((96, 96), Image.Resampling.BICUBIC)))
    cluster_ids = clusters(64, found([*scenes, *(encoded(pixels) for pixels in chain[1:])]).pairs)
    assert cluster_ids[60:].tolist() == [0] * 4


def test_exact_copies_are_groups_represented_by_their_first_row(scenes: list[Pixels]) -> None:
    images = [*scenes, scenes[7], scenes[3], scenes[7], encoded(scenes[7], 50)]
    assert exact_groups(measure([decode(image) for image in images]).facts) == [[3, 61], [7, 60, 62]]
    assert pairs_of(images) == [[7, 63]]


def test_unreadable_images_are_in_no_group_and_no_pair(scenes: list[Pixels]) -> None:
    measured = measure([decode(image) for image in [*scenes, encoded(scenes[0]), encoded(scenes[1])]])
    facts = measured.facts
    facts[60] = Facts(error="the file is empty")
    facts[5] = facts[6] = Facts(sha256="", error="the file is truncated")
    assert exact_groups(facts) == []
    assert find_copies(measured.thumbnails, measured.looks, facts).pairs.tolist() == [[1, 61]]


def test_empty_pictures_are_no_copies_of_each_other(scenes: list[Pixels]) -> None:
    def blank(level: int, speck: int) -> Pixels:
        pixels = np.full((64, 64, 3), level, np.uint8)
        pixels[speck:, :32] += 1
        return pixels

    assert pairs_of([*scenes, *(blank(level, speck) for level in (0, 128, 250) for speck in (0, 1, 2))]) == []


def test_content_in_the_border_alone_stops_nothing() -> None:
    noise = [np.random.default_rng(seed).integers(0, 256, (160, 160, 3), np.uint8) for seed in range(20)]
    strips: list[Pixels] = []
    for top, bottom in ((30, 76), (32, 72), (30, 70), (28, 76)):
        strips.append(np.zeros((160, 160, 3), np.uint8))
        strips[-1][top:bottom, -3:] = 255
    copies = found([*noise, *strips])
    assert all(row >= 20 for row in copies.pairs.ravel().tolist())


@pytest.mark.parametrize("step", [1, 3, 20])
def test_handwritten_digits_are_no_copies(step: int) -> None:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    levels = np.round(digits.images[::step] * (255 / 16)).astype(np.uint8)
    assert pairs_of([np.repeat(image[:, :, None], 3, axis=2) for image in levels]) == []


def test_a_shared_motif_is_no_copy() -> None:
    motif = scene(0)
    assert pairs_of([(0.7 * motif + 0.3 * scene(seed)).astype(np.uint8) for seed in range(1, 60)]) == []


def wafer(seed: int, size: int = 128, lines: int = 40) -> Pixels:
    """Return a part of one kind: a bright disk with a grid, and fine scratches of its own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    levels = np.where(np.hypot(y - size / 2, x - size / 2) < 0.45 * size, 150.0, 40.0)
    levels[(y % 16 == 0) | (x % 16 == 0)] -= 25
    for top, left, length in random.integers(4, size - 24, (lines, 3)):
        levels[top : top + 2, left : left + 4 + length % 16] -= 45
    return np.repeat((levels + random.normal(0, 2, levels.shape)).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_wafers_whose_details_differ_are_no_copies_and_true_copies_are_found() -> None:
    wafers = [wafer(seed) for seed in range(60)]
    copies = found([*wafers, *(encoded(pixels, 80) for pixels in wafers[:10])])
    assert copies.pairs.tolist() == [[row, 60 + row] for row in range(10)]


def test_neighbours_that_cannot_be_told_from_copies_are_crowded_and_their_torn_pairs_estimated() -> None:
    parts = [wafer(seed, lines=3) for seed in range(30)]
    copies = found([*parts, *(scene(seed, 128) for seed in range(30))])
    assert copies.pairs.tolist() == []
    assert copies.crowded_total == pytest.approx(30 * 29 / 2, rel=0.1)
    assert copies.torn(["train"] * 60) == 0
    half_torn = copies.torn(["train", "test"] * 30)
    assert half_torn == pytest.approx(copies.crowded_total / 2, rel=0.5)
    (note,) = copies.crowd_note(["train", "test"] * 30)
    assert "cannot tell which are copies" in note
    assert f"about {round(half_torn):,} of these pairs are in different splits" in note
    assert "--group-by" in note
    assert copies.crowd_note(["train"] * 60) == []


def test_pairs_among_some_rows_are_numbered_anew() -> None:
    copies = Copies(np.array([[0, 2], [1, 3]]), np.array([True, False]), np.array([[0, 1], [2, 3]]), np.array([True, True]), 10.0)
    few = copies.among(np.array([0, 2, 3]), 4)
    assert few.pairs.tolist() == [[0, 1]]
    assert few.same.tolist() == [True]
    assert few.alike.tolist() == [[1, 2]]
    assert few.crowded_total == 5.0


def test_frames_of_a_film_are_one_cluster_with_few_pairs(scenes: list[Pixels]) -> None:
    random = np.random.default_rng(0)
    film = [(scenes[0] + random.normal(0, 2, scenes[0].shape)).clip(0, 255).astype(np.uint8) for _ in range(150)]
    pairs = found([*film, *scenes[1:]]).pairs
    assert len(pairs) <= 150 * comparison.MAX_DETAIL_PARTNERS
    assert (clusters(209, pairs)[:150] == 0).all()


def test_the_lists_of_a_large_set_hold_the_same_copies(scenes: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*scenes, *(encoded(half(pixels), 50) for pixels in scenes)]
    expected = pairs_of(images)
    monkeypatch.setattr(candidates, "MAX_EXHAUSTIVE_ROWS", 10)
    monkeypatch.setattr(candidates, "ROWS_PER_LIST", 15)
    assert pairs_of(images) == expected
    assert len(expected) == 60


def test_a_set_larger_than_the_sample_has_the_same_copies(scenes: list[Pixels], monkeypatch: pytest.MonkeyPatch) -> None:
    images = [*scenes, *(encoded(half(pixels), 50) for pixels in scenes[:20])]
    for module in (crowd, duplicates):
        monkeypatch.setattr(module, "SAMPLE_SIZE", 40)
    assert pairs_of(images) == [[row, 60 + row] for row in range(20)]


def test_no_image_and_one_image_have_no_pairs(scenes: list[Pixels]) -> None:
    assert found(scenes[:1]).pairs.shape == (0, 2)
    assert found([]).pairs.shape == (0, 2)
    assert exact_groups([]) == []
    assert clusters(0, np.empty((0, 2), np.int64)).tolist() == []


def test_two_images_alone_are_compared(scenes: list[Pixels]) -> None:
    assert pairs_of([scenes[0], encoded(scenes[0], 50), scenes[1]]) == [[0, 1]]


def test_near_copies_across_two_sets_are_pairs_of_their_rows(scenes: list[Pixels]) -> None:
    given = measure([decode(image) for image in [scenes[9], *(encoded(half(scenes[row])) for row in (3, 5))]])
    known = measure([decode(image) for image in [*scenes[:8], encoded(scenes[1])]])
    across, within = near_pairs_between(given, known)
    assert across.tolist() == [[1, 3], [2, 5]]
    assert within.tolist() == [[1, 8]]
    nothing, _ = near_pairs_between(measure([]), known)
    assert nothing.tolist() == []


def test_clusters_are_numbered_by_their_first_row() -> None:
    pairs = np.array([[3, 5], [1, 4], [4, 5], [6, 7]])
    assert clusters(9, pairs).tolist() == [0, 1, 2, 1, 1, 1, 6, 6, 8]
    assert clusters(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_the_version_of_the_method_is_a_number() -> None:
    assert isinstance(duplicates.METHOD_VERSION, int)


def test_a_crop_is_found_among_many_other_versions_of_its_picture() -> None:
    pictures = [scene(seed, 128) for seed in range(60)]
    versions: list[bytes | Pixels] = []
    for pixels in pictures[:10]:
        mirrored = pixels[:, ::-1]
        versions += [
            encoded(pixels, 50),
            half(pixels),
            mirrored,
            np.rot90(pixels),
            encoded(half(mirrored), 50),
            encoded(pixels, 70),
            half(mirrored),
        ]
    crops = [encoded(pixels[6:-3, 6:-3]) for pixels in pictures[:10]]
    cluster_ids = clusters(140, found([*pictures, *versions, *crops]).pairs)
    assert cluster_ids[60:].tolist() == [*np.repeat(range(10), 7), *range(10)]


def test_pictures_behind_an_index_are_compared_as_they_are(scenes: list[Pixels]) -> None:
    measured = measure([decode(image) for image in [*scenes, encoded(scenes[3], 50)]])
    direct = find_copies(measured.thumbnails, measured.looks, measured.facts)
    order = np.random.default_rng(0).permutation(len(measured.facts))
    thumbnails, looks = (StoredRows(pictures[np.argsort(order)], order) for pictures in (measured.thumbnails, measured.looks))
    again = find_copies(thumbnails, looks, measured.facts)
    assert again.pairs.tolist() == direct.pairs.tolist() == [[3, len(scenes)]]


def test_links_leave_out_rows_without_a_name() -> None:
    assert link_equal(["a", None, "b", "a", None]).tolist() == [[0, 0], [2, 2], [0, 3]]
    assert link_equal([]).shape == link_equal([None]).shape == (0, 2)
