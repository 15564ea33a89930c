"""The progress of reading images, as a command shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]


def say_to(progress: Progress | None, text: str) -> None:
    """Give `progress` a sentence for the user, if it has a method `say`."""
    say: Callable[[str], None] | None = getattr(progress, "say", None)
    if say is not None:
        say(text)


def count_files(progress: Progress | None, done: int, total: int) -> None:
    """Tell `progress` that `done` of `total` files are listed, if it has a method `files`."""
    files: Progress | None = getattr(progress, "files", None)
    if files is not None:
        files(done, total)
