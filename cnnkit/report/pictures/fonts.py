"""Fonts for class names in plots, and labels without letters that the fonts lack."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager

from cnnkit.report.terminal.console import escaped

_LATIN_FONT = "DejaVu Sans"  # ships with matplotlib and has Greek, Cyrillic, Arabic and Hebrew
_CJK_FONTS = (  # common system fonts with Chinese, Japanese or Korean; the first installed font fills the gaps
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Micro Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
)
_MAX_LABEL_LENGTH = 24  # characters, to fit both axes


@cache
def families() -> tuple[str, ...]:
    """Return the font families for class names, in the order of preference for each letter."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (_LATIN_FONT, *[name for name in _CJK_FONTS if name in installed][:1])


@cache
def _letters() -> frozenset[int]:
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families()]
    return frozenset(code for font in fonts for code in font.get_charmap())


def plot_labels(classes: Sequence[str]) -> list[str]:
    """Return a label for each class: its name, cut in the middle if long, or ``class 7`` (with its index) if no font can write it."""
    return [_label(index, name) for index, name in enumerate(classes)]


def drawable(text: str) -> str:
    """Return `text` with escaped control characters and ``?`` for each letter that no font can write."""
    return "".join(letter if ord(letter) in _letters() else "?" for letter in escaped(text))


def middle_cut(text: str, letters: int) -> str:
    """Return `text`, cut in the middle to at most `letters` letters, as names differ at both ends."""
    if len(text) <= letters:
        return text
    half = (letters - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def _label(index: int, name: str) -> str:
    if not name.isprintable() or not all(ord(letter) in _letters() for letter in name):
        return f"class {index}"
    return middle_cut(name, _MAX_LABEL_LENGTH).replace("$", r"\$")  # a pair of plain $ would enclose a formula
