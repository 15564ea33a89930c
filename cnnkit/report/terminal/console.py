"""The console of every table and message, which escapes names from data and model files."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text


class EscapingConsole(Console):
    """A rich console that reads no markup and, except for line breaks, writes no control characters of a name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """Return `text`, escaped line by line, so that a table measures the escaped text."""
        return super().render_str("\n".join(map(escaped, text.split("\n"))), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of `renderable`, all escaped except control segments."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(escaped, segment.text.split("\n"))), segment.style)


def escaped(text: str) -> str:
    r"""Return `text` with line breaks, escape codes and undecodable bytes as printable text, such as ``\x1b``."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
