from __future__ import annotations

from cnnkit.data.progress import count_files, say_to


class Bar:
    def __init__(self) -> None:
        self.said: list[object] = []

    def __call__(self, done: int, total: int) -> None:
        self.said.append(("images", done, total))

    def say(self, text: str) -> None:
        self.said.append(text)

    def files(self, done: int, total: int) -> None:
        self.said.append(("files", done, total))


def test_a_progress_may_say_sentences_and_count_files() -> None:
    bar = Bar()
    say_to(bar, "slow")
    count_files(bar, 1, 2)
    assert bar.said == ["slow", ("files", 1, 2)]


def test_a_plain_function_or_none_is_told_neither() -> None:
    told: list[tuple[int, int]] = []
    for progress in (None, lambda done, total: told.append((done, total))):
        say_to(progress, "slow")
        count_files(progress, 1, 2)
    assert told == []
