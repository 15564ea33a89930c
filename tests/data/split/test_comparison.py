from __future__ import annotations

from typing import Any

import numpy as np

from cnnkit.data.split.candidates import Candidates, canonical, describe
from cnnkit.data.split.comparison import MAX_DETAIL_PARTNERS, Pictures, compare, decide, sample_crowded

Looks = np.ndarray[Any, np.dtype[np.uint8]]
ROOM = 0.5


def looks(count: int, seed: int = 0) -> Looks:
    """Return pictures of 64 px whose amplitudes are 1 / frequency, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)) * 64
    waves = np.fft.ifft2(np.fft.fft2(np.random.default_rng(seed).normal(size=(count, 64, 64))) / np.maximum(frequency, 1)).real
    return (128 + 45 * waves / waves.std()).clip(0, 255).astype(np.uint8)


def pictures(shown: Looks, side: int = 64) -> Pictures:
    small = shown.reshape(len(shown), 16, 4, 16, 4).mean((2, 4)).round().astype(np.uint8)
    thumbnails = np.repeat(small[..., None], 3, axis=3)
    return Pictures(thumbnails, shown, np.arange(len(shown)), np.full(len(shown), side), canonical(describe(thumbnails)))


def candidates(*pairs: tuple[int, int, int]) -> Candidates:
    return Candidates(np.array([pair[:2] for pair in pairs], np.int64), np.array([pair[2] for pair in pairs], np.int8))


def test_the_best_symmetry_of_a_pair_is_kept() -> None:
    shown = looks(4)
    given = pictures(np.concatenate([shown, shown[:1, :, ::-1]]))
    compared = compare(given, candidates((0, 1, 0), (0, 4, 0), (0, 4, 2), (0, 4, 3)))
    assert compared.pairs.tolist() == [[0, 4]]
    assert compared.symmetries.tolist() == [2]
    decision = decide(given, compared, np.full(5, ROOM), None)
    assert (decision.linked.tolist(), decision.same.tolist()) == ([True], [False])


def test_the_same_picture_is_linked_and_the_same() -> None:
    shown = looks(4)
    given = pictures(np.concatenate([shown, shown[:1]]))
    decision = decide(given, compare(given, candidates((0, 4, 0))), np.full(5, ROOM), None)
    assert (decision.linked.tolist(), decision.same.tolist()) == ([True], [True])


def test_a_few_partners_of_an_image_are_compared_in_detail() -> None:
    copies = np.repeat(looks(1), 12, axis=0)
    every = [(i, j, 0) for i in range(12) for j in range(i + 1, 12)]
    compared = compare(pictures(copies), candidates(*every))
    assert len(compared.pairs) <= 12 * MAX_DETAIL_PARTNERS < len(every)


def test_images_below_the_size_of_a_thumbnail_are_judged_by_thumbnails() -> None:
    shown = looks(4)
    given = pictures(np.concatenate([shown, shown[:1]]), side=8)
    compared = compare(given, candidates((0, 4, 0)))
    assert not compared.detailed.any()
    assert decide(given, compared, np.full(5, ROOM), None).linked.tolist() == [True]
    assert decide(given, compared, np.zeros(5), None).linked.tolist() == [False]


def test_thumbnails_that_agree_with_other_details_are_alike_and_not_linked() -> None:
    shape = looks(1)[0].astype(np.int16)
    checks = np.random.default_rng(1).choice([-25, 25], (2, 32, 32)).repeat(2, 1).repeat(2, 2)
    checks -= checks.reshape(2, 16, 4, 16, 4).mean((2, 4)).astype(np.int64).repeat(4, 1).repeat(4, 2)
    given = pictures((shape + checks).clip(0, 255).astype(np.uint8))
    decision = decide(given, compare(given, candidates((0, 1, 0))), np.full(2, ROOM), None)
    assert (decision.linked.tolist(), decision.alike.tolist(), decision.crowded.tolist()) == ([False], [True], [False])


def test_pairs_of_one_cluster_stay_linked_and_others_need_room() -> None:
    shape = looks(1)[0].astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 6, (12, 64, 64))
    given = pictures((shape + noise).clip(0, 255).astype(np.uint8))
    compared = compare(given, candidates((0, 1, 0), (2, 3, 0)))
    room = np.full(12, ROOM)
    crowded = decide(given, compared, room, None)
    assert (crowded.linked.tolist(), crowded.crowded.tolist()) == ([False, False], [True, True])
    ids = np.array([0, 0, *range(2, 12)])
    assert decide(given, compared, room, ids).linked.tolist() == [True, False]


def test_the_estimate_of_crowded_pairs_is_exact_where_every_pair_is_compared() -> None:
    shape = looks(1)[0].astype(np.int16)
    noise = np.random.default_rng(0).normal(0, 6, (8, 64, 64))
    given = pictures((shape + noise).clip(0, 255).astype(np.uint8))
    pairs, total = sample_crowded(given, np.arange(8))
    assert (len(np.unique(pairs, axis=0)), total) == (25, 28)  # four partners of each image
    pairs, total = sample_crowded(given, np.array([0, 0, *range(2, 8)]))
    assert total == 27
    assert sample_crowded(pictures(looks(6)), np.arange(6))[1] == 0
