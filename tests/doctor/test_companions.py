from __future__ import annotations

import shutil

import pytest

from cnnkit.data.exclusion import leave_out
from cnnkit.data.source import open_source
from cnnkit.doctor.companions import companion_files, companions

PHOTO, MASK = {"tones": 20}, {"tones": 2}


@pytest.fixture
def pairs(image, evidence):
    """Return a function that makes evidence of 10 photographs and a companion of each; both are named by functions of a number."""

    def make(photo, companion, tones=2, extra=()):
        images = [image(path.split("/")[0], path=path, tones=20) for path in map(photo, range(10))]
        images += [image(path.split("/")[0], path=path, tones=tones) for path in map(companion, range(10))]
        return evidence([*images, *(image(path.split("/")[0], path=path, tones=20) for path in extra)])

    return make


@pytest.mark.parametrize(
    ("photo", "companion", "pattern"),
    [
        (lambda n: f"cracks/{n}.jpg", lambda n: f"cracks/{n}.png", "*.png"),
        (lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}_mask.png", "*_mask.*"),
        (lambda n: f"cats/{n}.jpg", lambda n: f"cats/mask_{n}.jpg", "*/mask_*"),
        (lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}-part.png", "*-part.*"),
        (lambda n: f"cats/images/{n}.jpg", lambda n: f"cats/masks/{n}.png", "*/masks/*"),
        (lambda n: f"cats/rgb/{n}.jpg", lambda n: f"cats/b&w [1]/{n}.jpg", "*/b&w [[]1]/*"),
        (lambda n: f"cats/{n}.jpg", lambda n: f"masks/{n}.jpg", "masks/*"),
    ],
)
def test_masks_are_found_by_suffix_word_and_folder(photo, companion, pattern, pairs) -> None:
    found = pairs(photo, companion)
    finding = companion_files(found)
    assert finding is not None
    assert (finding.id, finding.severity) == ("companion-files", "warning")
    assert finding.files == tuple((photo(n), companion(n)) for n in range(10))
    assert finding.message == (
        f"10 masks or annotations beside the images, such as {companion(0)!r} beside {photo(0)!r}. "
        f"Training takes each for an image of its class. Leave them out: --exclude '{pattern}'"
    )
    assert [part.pairs for part in companions(found)] == [tuple((n, n + 10) for n in range(10))]


def test_the_pattern_leaves_out_the_companions_alone(image_folder) -> None:
    root = image_folder(("cats", "dogs"), 4)
    for photo in root.glob("cats/*.jpg"):
        shutil.copy(photo, photo.with_name(f"{photo.stem}_mask.png"))
    source = leave_out(open_source(str(root)), ("*_mask.*",))
    assert [record.path for record in source.records if record.label == "cats"] == [f"cats/cats-00{n}.jpg" for n in range(4)]


def test_a_depth_map_is_known_by_its_name(pairs) -> None:
    assert companion_files(pairs(lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}_depth.png", tones=20)) is not None
    assert companion_files(pairs(lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}_small.png", tones=20)) is None


def test_the_same_numbers_in_two_classes_are_no_companions(pairs) -> None:
    """Silhouettes beside photographs are a class of their own."""
    assert companion_files(pairs(lambda n: f"photos/{n}.jpg", lambda n: f"drawings/{n}.png")) is None


def test_photographs_in_two_formats_and_drawings_are_no_masks(pairs, image, evidence) -> None:
    assert companion_files(pairs(lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}.png", tones=20)) is None
    drawings = [image("a", path=f"a/{n}.{suffix}", tones=2) for n in range(10) for suffix in ("png", "gif")]
    assert companion_files(evidence(drawings)) is None


def test_a_pattern_that_would_leave_out_photographs_is_not_named(pairs) -> None:
    extra = [f"cats/photo{n}.png" for n in range(10)]
    assert companion_files(pairs(lambda n: f"cats/{n}.jpg", lambda n: f"cats/{n}.png", extra=extra)) is None


def test_two_pairs_are_an_accident(image, evidence) -> None:
    images = [image("a", path=f"a/{n}.{suffix}", **facts) for n in range(2) for suffix, facts in (("jpg", PHOTO), ("png", MASK))]
    assert companion_files(evidence(images)) is None
