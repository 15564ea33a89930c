from __future__ import annotations

import numpy as np
import pytest

from cnnkit.doctor.shortcut import FAMILIES, measure, sample, shortcut


def natural(image, sizes, **changed):
    """Yield images whose facts do not depend on their class, except `changed` facts in the class `odd`."""
    random = np.random.default_rng(0)
    for label, size in sizes.items():
        for _ in range(size):
            width, height = (int(pixels) for pixels in random.choice([(500, 375), (375, 500), (500, 333), (640, 480)]))
            facts = {
                "bytes": int(random.lognormal(10.6, 0.5)),
                "width": width,
                "height": height,
                "quality": int(random.choice([85, 85, 90])),
            }
            yield image(label, **facts | (changed if label == "odd" else {}))


def noise(count):
    return np.random.default_rng(1).integers(0, 256, (count, 16, 16, 3)).astype(np.uint8)


CLASSES = dict.fromkeys(["odd", *(f"class {i}" for i in range(4))], 40)


def test_natural_data_has_no_shortcut(image, evidence) -> None:
    assert shortcut(evidence(natural(image, CLASSES), thumbnails=noise(200))) is None


@pytest.mark.parametrize(
    ("changed", "family"),
    [
        ({"quality": 75}, "format, JPEG quality and colour mode"),
        ({"format": "PNG", "quality": 0}, "format, JPEG quality and colour mode"),
        ({"width": 320, "height": 320}, "image size"),
        ({"bytes": 900_000}, "file size"),
    ],
)
def test_a_differently_saved_class_stands_out(changed, family, image, evidence) -> None:
    found = evidence(natural(image, CLASSES, **changed))
    result = measure(found, sample(found), found.labels, next(known for known in FAMILIES if known.name == family))
    assert result is not None
    assert result.strength >= result.family.warning
    assert result.easiest == "odd"
    assert result.found > 0.9


def test_a_shortcut_is_a_warning_with_feature_class_and_baseline(image, evidence) -> None:
    finding = shortcut(evidence(natural(image, CLASSES, quality=75), thumbnails=noise(200)))
    assert finding is not None
    assert (finding.severity, finding.files) == ("warning", ())
    assert "format, JPEG quality and colour mode alone" in finding.message
    assert "of 'odd'" in finding.message
    assert "(200 images; a constant prediction reaches 20 %)" in finding.message


def test_a_coloured_frame_is_a_warning(image, evidence) -> None:
    thumbnails = noise(200)
    thumbnails[:40, [0, -1]] = thumbnails[:40, :, [0, -1]] = (220, 30, 30)
    finding = shortcut(evidence(natural(image, CLASSES), thumbnails=thumbnails))
    assert finding is not None
    assert finding.severity == "warning"
    assert "border colours alone" in finding.message


def test_a_background_that_often_reveals_the_class_is_a_note(image, evidence) -> None:
    thumbnails = noise(200)
    for row in range(34):
        thumbnails[row, [0, -1]] = thumbnails[row, :, [0, -1]] = (90, 150, 230)
    finding = shortcut(evidence(natural(image, CLASSES), thumbnails=thumbnails))
    assert finding is not None
    assert finding.severity == "note"
    assert "backgrounds" in finding.message


def test_copies_do_not_make_a_shortcut(image, evidence) -> None:
    """Each picture occurs ten times in its class, so that a model recognises the copy and not the class."""
    random = np.random.default_rng(0)
    images = [
        image(label, content=f"{label}{copy}", bytes=int(size))
        for label in ("a", "b", "c", "d")
        for copy, size in enumerate(random.uniform(1e4, 1e6, 12))
        for _ in range(10)
    ]
    found = evidence(images)
    labels = found.labels
    size = FAMILIES[0]
    together = measure(found, sample(found), labels, size)
    apart = measure(evidence([(record, type(facts)(bytes=facts.bytes)) for record, facts in images]), sample(found), labels, size)
    assert together is not None
    assert apart is not None
    assert together.strength < 0.3
    assert apart.strength > 0.6


def test_the_measurement_has_an_interval(image, evidence) -> None:
    found = evidence(natural(image, {"odd": 100, "other": 100}, quality=75), thumbnails=noise(200))
    result = measure(found, sample(found), found.labels, FAMILIES[2])
    assert result is not None
    assert result.easiest in {"odd", "other"}
    assert result.accuracy == pytest.approx(1.0)
    assert 0 < result.margin < 0.05
    assert 0.85 < result.strength < 1
    assert measure(evidence([image("a"), image("b")]), np.array([0, 1]), np.array([0, 1]), FAMILIES[0]) is None


def test_large_data_is_sampled_equally_from_all_classes(image, evidence) -> None:
    found = evidence([image(label) for label, size in {"a": 6000, "b": 3000, "c": 9, "d": 30}.items() for _ in range(size)])
    chosen = found.labels[sample(found)]
    assert np.bincount(chosen, minlength=4).tolist() == [1666, 1666, 0, 30]


def test_too_few_images_do_not_crash_the_check(image, evidence) -> None:
    assert shortcut(evidence([image("a") for _ in range(50)])) is None
    assert shortcut(evidence([image("a"), image("b")])) is None


def test_noise_in_fifty_classes_has_no_strength(image, evidence) -> None:
    found = evidence(natural(image, {f"class {i}": 20 for i in range(50)}), thumbnails=noise(1000))
    results = [measure(found, sample(found), found.labels, family) for family in FAMILIES]
    assert [result.strength for result in results if result] == pytest.approx([0] * 4, abs=0.05)


def test_a_shortcut_of_few_images_is_a_note(image, evidence) -> None:
    """One of 25 classes stands out: 4 % of the images."""
    sizes = dict.fromkeys(["odd", *(f"class {i}" for i in range(24))], 24)
    finding = shortcut(evidence(natural(image, sizes, format="PNG", quality=0), thumbnails=noise(600)))
    assert finding is not None
    assert finding.severity == "note"
    assert "it concerns 4.0 % of all images" in finding.message
    assert "save all classes in the same way" in finding.message
