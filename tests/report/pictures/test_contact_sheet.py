from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnkit.report.pictures import contact_sheet as sheets
from cnnkit.report.pictures.contact_sheet import Tile, contact_sheet, matted

RED, BLUE = (200, 0, 0), (0, 0, 200)
FRAME_OF_BAD = (200, 30, 30)


def flat(colour: tuple[int, int, int], width: int = 8, height: int = 8) -> np.ndarray[Any, Any]:
    return np.full((height, width, 3), colour, np.uint8)


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_the_pixels_of_small_images_become_squares() -> None:
    image = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(matted(image, 64), image.repeat(16, axis=0).repeat(16, axis=1))


def test_a_small_image_is_centred_and_enlarged_by_a_whole_factor() -> None:
    shown = matted(flat(RED, width=30, height=10), 64)
    inside = (shown == RED).all(2)
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    assert (len(rows), len(columns)) == (20, 60)
    assert (rows[0], columns[0]) == (22, 2)


def test_large_images_are_averaged_down() -> None:
    stripes = np.zeros((256, 512, 3), np.uint8)
    stripes[:, ::2] = 200
    shown = matted(stripes, 64)
    assert (shown[32, 1:-1] == 100).all()


def test_tiles_keep_their_pixels_on_the_sheet() -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(3)]
    sheet = pixels(contact_sheet([[Tile(images[0]), Tile(images[1])], [Tile(images[2])]], size=32))
    wanted = {image.tobytes() for image in images}
    height, width = sheet.shape[:2]
    windows = {sheet[y : y + 32, x : x + 32].tobytes() for y in range(height - 31) for x in range(width - 31)}
    assert wanted <= windows


def test_styles_frame_tiles_and_texts_are_drawn() -> None:
    plain = pixels(contact_sheet([[Tile(flat(BLUE))]]))
    marked = pixels(contact_sheet([[Tile(flat(BLUE), style="bad")]]))
    assert not (plain == FRAME_OF_BAD).all(2).any()
    assert (marked == FRAME_OF_BAD).all(2).any()
    titled = pixels(contact_sheet([[Tile(flat(BLUE))]], title="title"))
    assert titled.shape == plain.shape
    assert (titled != plain).any()


def test_a_note_is_a_red_line_below_the_caption() -> None:
    plain = pixels(contact_sheet([[Tile(flat(BLUE), "a.jpg")]]))
    noted = pixels(contact_sheet([[Tile(flat(BLUE), "a.jpg", note="wrong")]]))
    alone = pixels(contact_sheet([[Tile(flat(BLUE), note="wrong")]]))
    assert noted.shape[0] == alone.shape[0] > plain.shape[0]
    below = noted[plain.shape[0] - 16 :].astype(int)
    assert ((below[..., 0] - below[..., 1]) > 60).any(), "the note must be red"
    np.testing.assert_array_equal(noted[: plain.shape[0] - 16], plain[:-16])


@pytest.mark.parametrize("name", ["猫", "$x$", r"$\frac$", "a\nb", "\udcff", "long " * 200, "[red]", ""])
def test_any_name_can_be_written(name: str) -> None:
    sheet = contact_sheet([[Tile(flat(RED), caption=name)]], labels=[name], heads=[name], title=name)
    assert (pixels(sheet) == RED).all(2).any()


def test_a_long_caption_keeps_both_ends_and_fits() -> None:
    cut = sheets._cut("train/ants/" + 40 * "x" + "-0815.jpg", 112, 7.0)
    assert cut.startswith("train")
    assert cut.endswith("-0815.jpg")
    assert sheets._measure(cut, 7.0) <= 112


def test_a_short_caption_stays_unchanged() -> None:
    assert sheets._cut("ants/1.jpg", 112, 7.0) == "ants/1.jpg"


def test_a_sheet_stays_within_its_limit_and_the_title_tells_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MAX_SHEET_PIXELS", 100_000)
    drawn: list[str] = []
    draw = sheets._png
    monkeypatch.setattr(sheets, "_png", lambda canvas, texts: (drawn.extend(text.text for text in texts), draw(canvas, texts))[1])
    sheet = pixels(contact_sheet([[Tile(flat(RED))]] * 50, title="copies"))
    assert sheet.shape[0] * sheet.shape[1] < 150_000
    assert any(text.startswith("copies (the first ") and text.endswith(" of 50 rows)") for text in drawn)


def test_a_sheet_without_rows_has_its_title() -> None:
    assert pixels(contact_sheet([], title="no copies")).shape[0] > 0


def test_the_same_tiles_give_the_same_bytes() -> None:
    rows = [[Tile(flat(RED), "a"), Tile(flat(BLUE), "b")]]
    assert contact_sheet(rows, title="t") == contact_sheet(rows, title="t")
