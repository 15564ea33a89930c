from __future__ import annotations

from cnnkit.errors import MAX_LISTED, closest, listed, shortened


def test_a_long_list_is_cut_and_the_rest_is_counted():
    names = [f"c{number}" for number in range(1500)]
    assert listed(names[:3]) == "c0, c1, c2"
    assert listed(names[:MAX_LISTED]).endswith("c9")
    assert listed(names).endswith("c8, c9 and 1,490 more")
    assert listed(names, 2) == "c0, c1 and 1,498 more"
    assert listed([]) == ""


def test_a_list_of_lines_ends_with_a_line():
    assert listed(["a: broken", "b: empty", "c: gone"], 2, "\n  ") == "a: broken\n  b: empty\n  and 1 more"


def test_items_may_be_cut_before_they_are_joined():
    assert shortened(["a", "b", "c"], 3) == ["a", "b", "c"]
    assert shortened(["a", "b", "c"], 1) == ["a", "2 more"]


def test_the_nearest_names_end_a_sentence():
    assert closest("resnt", ["resnet", "vgg"]) == "; did you mean 'resnet'?"
    assert closest("xyz", ["resnet", "vgg"]) == "."
