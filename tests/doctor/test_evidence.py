from __future__ import annotations

from dataclasses import replace

import numpy as np

from cnnkit.data.columns import Codes


def test_classes_and_counts_are_in_natural_order_and_count_unreadable_files_too(image, evidence) -> None:
    found = evidence([image("10"), image("2", error="the file is empty"), image("2")])
    assert found.classes == ("2", "10")
    assert found.counts == {"2": 2, "10": 1}
    assert found.labels.tolist() == [1, 0, 0]
    assert found.readable.tolist() == [0, 2]


def test_exact_and_near_copies_form_one_set(image, evidence) -> None:
    images = [image(content="x"), image(), image(content="x"), image(), image()]
    found = evidence(images, near=[(2, 3)])
    assert [rows.tolist() for rows in found.copies] == [[0, 2, 3]]


def test_long_chains_are_one_set(image, evidence) -> None:
    chain = [(row, row + 1) for row in range(499)]
    found = evidence([image() for _ in range(500)], near=np.random.default_rng(0).permutation(chain))
    assert [rows.tolist() for rows in found.copies] == [list(range(500))]


def test_unreadable_files_are_no_copies_of_each_other(image, evidence) -> None:
    broken = image(error="the file is empty")
    unreadable = (broken[0], type(broken[1])(error="the file is empty"))
    assert evidence([unreadable, unreadable]).copies == ()


def test_clusters_hold_copies_and_images_of_one_group(image, evidence) -> None:
    images = [image(group="p1", content="x"), image(group="p1"), image(content="x"), image(), image(group="p2")]
    assert evidence(images).cluster_ids.tolist() == [0, 0, 0, 3, 4]


def test_a_part_of_the_evidence_has_its_own_rows(image, evidence) -> None:
    found = replace(evidence([image("a"), image("b"), image("a"), image("c")], near=[(0, 2), (1, 3), (2, 3)]), splits=Codes.of("abcd"))
    part = found.only(np.array([0, 2, 3]))
    assert [record.label for record in part.records] == ["a", "a", "c"]
    assert part.classes == ("a", "c")
    assert part.facts == [found.facts[row] for row in (0, 2, 3)]
    assert part.near.pairs.tolist() == [[0, 1], [1, 2]]
    assert part.splits == ["a", "c", "d"]
    assert len(part.thumbnails) == 3
