"""The contrast of text on pages is at least 4.5, as WCAG 2.2 requires, in both schemes and in print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cnnkit.report import page

TEMPLATES = Path(page.__file__).parent / "templates"
Colour = tuple[float, ...]


def schemes() -> dict[str, dict[str, Colour]]:
    """Return the colours by scheme and name; print redefines colours in the last block of run.css."""
    found: dict[str, dict[str, Colour]] = {"light": {}, "dark": {}, "print": {}}
    for file in ("base.html", "run.css"):
        text = (TEMPLATES / file).read_text("utf-8")
        light, dark, printed, *_ = [*re.findall(r":root \{(.*?)\}", text, re.DOTALL), ""]
        for scheme, block in (("light", light), ("dark", dark), ("print", printed)):
            found[scheme] |= {name: parse_hex(value) for name, value in re.findall(r"--(\w+): #(\w+)", block)}
    return {"light": found["light"], "dark": found["light"] | found["dark"], "print": found["light"] | found["dark"] | found["print"]}


def parse_hex(text: str) -> Colour:
    digits = "".join(letter * 2 for letter in text) if len(text) == 3 else text
    return tuple(int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4))


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(share * a + (1 - share) * b for a, b in zip(one, other, strict=True))


def luminance(colour: Colour) -> float:
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_text_has_enough_contrast(scheme: str) -> None:
    colours = schemes()[scheme]
    for background in ("paper", "panel"):
        for text in ("ink", "faded", "note", "warning", "error"):
            assert contrast(colours[text], colours[background]) >= 4.5, (text, background)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_counts_have_enough_contrast_on_the_strongest_shade(scheme: str) -> None:
    colours = schemes()[scheme]
    shades = [int(share) / 100 for share in re.findall(r"--share: (\d+)%", (TEMPLATES / "run.css").read_text("utf-8"))]
    assert len(shades) == 8
    for shade in ("hit", "miss"):
        assert contrast(colours["ink"], mixed(colours[shade], colours["panel"], max(shades))) >= 4.5, shade


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_lines_and_bars_have_enough_contrast(scheme: str) -> None:
    colours = schemes()[scheme]
    for line in ("series0", "series1", "series2", "series3", "bar"):
        assert contrast(colours[line], colours["paper"]) >= 3, line
