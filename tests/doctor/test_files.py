from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cnnkit.doctor.files import exif_rotated, odd_mode, unreadable, wrong_extension


def test_unreadable_files_are_errors_with_their_reasons_counted(image_folder, collect) -> None:
    folder = image_folder()
    whole = (folder / "ants" / "ants-000.jpg").read_bytes()
    for name in ("x1.jpg", "x2.jpg"):
        (folder / "ants" / name).write_bytes(whole[:300])
    (folder / "bees" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(64))
    finding = unreadable(collect(folder))
    assert finding is not None
    assert finding.severity == "error"
    assert finding.files == (("ants/x1.jpg",), ("ants/x2.jpg",), ("bees/photo.heic",))
    assert "3 files (11 %) cannot be read: the file is truncated (2)" in finding.message
    assert "HEIC" in finding.message
    assert "--on-bad fail" in finding.message


def test_a_png_named_jpg_is_a_note(image_folder, collect) -> None:
    folder = image_folder()
    Image.open(folder / "ants" / "ants-000.jpg").save(folder / "ants" / "ants-000.jpg", "PNG")
    finding = wrong_extension(collect(folder))
    assert finding is not None
    assert (finding.severity, finding.files) == ("note", (("ants/ants-000.jpg",),))
    assert "PNG named .jpg (1)" in finding.message


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a/1.JPG", "JPEG"),
        ("a/1.jfif", "JPEG"),
        ("a/1.jpg", "MPO"),
        ("a/1.tif", "TIFF"),
        ("a/1", "PNG"),
        ("a/1.dat", "PNG"),
        ("a/1.jpg", ""),
    ],
)
def test_fitting_and_unknown_suffixes_have_no_finding(path, kind, image, evidence) -> None:
    assert wrong_extension(evidence([image(path=path, format=kind)])) is None


def test_turned_photographs_are_a_note(image_folder, collect) -> None:
    folder = image_folder()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "bees" / "bees-001.jpg").save(folder / "bees" / "bees-001.jpg", exif=exif)
    finding = exif_rotated(collect(folder))
    assert finding is not None
    assert (finding.severity, finding.files) == ("note", (("bees/bees-001.jpg",),))


def test_odd_modes_state_their_treatment(image_folder, collect) -> None:
    folder = image_folder(suffix=".png")
    pixels = np.asarray(Image.open(folder / "ants" / "ants-000.png"))
    Image.fromarray(pixels).convert("RGBA").save(folder / "ants" / "ants-000.png")
    Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257).save(folder / "ants" / "ants-001.png")
    Image.fromarray(pixels).convert("CMYK").save(folder / "ants" / "ants-002.jpg")
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    frames[0].save(folder / "ants" / "ants-003.gif", save_all=True, append_images=frames[1:])
    finding = odd_mode(collect(folder))
    assert finding is not None
    assert finding.severity == "note"
    assert [path for (path,) in finding.files] == [f"ants/ants-00{name}" for name in ("0.png", "1.png", "2.jpg", "3.gif")]
    for part in (
        "with transparency (1: dropped",
        "16-bit gray (1: scaled",
        "CMYK (1: converted",
        "with several frames or pages (1: the first",
    ):
        assert part in finding.message


@pytest.mark.parametrize("facts", [{"mode": "L"}, {"mode": "P"}, {"mode": "1"}, {"animated": True, "format": "MPO"}])
def test_gray_palettes_and_stereo_photographs_are_not_odd(facts, image, evidence) -> None:
    assert odd_mode(evidence([image(**facts)])) is None


def test_ordinary_images_have_no_finding(image_folder, collect) -> None:
    found = collect(image_folder())
    assert [check(found) for check in (unreadable, wrong_extension, exif_rotated, odd_mode)] == [None] * 4
