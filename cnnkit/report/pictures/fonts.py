"""Which class names a plot can write: the fonts at hand decide, and a missing letter must not become an empty box."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from matplotlib import font_manager

from cnnkit.report.terminal.console import escaped

_LATIN = "DejaVu Sans"  # ships with matplotlib: also Greek, Cyrillic, Arabic, Hebrew
_OTHERS = (  # fonts with Chinese, Japanese or Korean that systems bring along; the first that is installed fills the gaps
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
_LONGEST = 24  # characters; room for a label at both axes


@cache
def families() -> tuple[str, ...]:
    """Return the font families to write class names in, tried in this order for each letter."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return (_LATIN, *[name for name in _OTHERS if name in installed][:1])


@cache
def _letters() -> frozenset[int]:
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in families()]
    return frozenset(code for font in fonts for code in font.get_charmap())


def plot_labels(classes: Sequence[str]) -> list[str]:
    """Return a label for each class: its name, cut in the middle if long, or ``class 7`` (its index) if no font can write it."""
    return [_label(index, name) for index, name in enumerate(classes)]


def drawable(text: str) -> str:
    """Return `text` with ``?`` for every letter that no font can write, and what cannot be printed written out."""
    return "".join(letter if ord(letter) in _letters() else "?" for letter in escaped(text))


def _label(index: int, name: str) -> str:
    if not name.isprintable() or not all(ord(letter) in _letters() for letter in name):
        return f"class {index}"
    half = (_LONGEST - 1) // 2
    short = name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"
    return short.replace("$", r"\$")  # a bare pair of $ would start a formula
