"""The pages about benchmarks: links, the form of the log, and sentences that a reader takes in at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
BENCHMARKS = CHECKOUT / "docs" / "benchmarks"
PAGES = sorted(BENCHMARKS.rglob("*.md"))
LINKING = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
LOG = (BENCHMARKS / "LOG.md").read_text("utf-8")
MAX_WORDS = 25
MAX_LINES = 60


def headings(path: Path) -> list[str]:
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL), re.MULTILINE)


def anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a page, without tables, headings and code; inline code and a link's target count as one word at most."""
    text = re.sub(r"^ *```.*?^ *```", "\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^ *(\||#).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "code", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text))
    for block in re.split(r"\n\s*\n|^ *(?:-|\d+\.) ", text, flags=re.MULTILINE):
        yield from re.split(r"(?<=[.!?])\s+", " ".join(block.split()))


def test_front_page_is_short() -> None:
    assert len((BENCHMARKS / "README.md").read_text("utf-8").splitlines()) <= MAX_LINES


def test_front_page_names_every_script() -> None:
    text = (BENCHMARKS / "README.md").read_text("utf-8")
    scripts = {path.name for path in BENCHMARKS.glob("*.py")} - {"document.py"}
    assert not [name for name in sorted(scripts) if name not in text]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(BENCHMARKS).as_posix())
def test_sentences_are_short(page: Path) -> None:
    long = [text for text in sentences(page.read_text("utf-8")) if len(re.findall(r"\S*\w\S*", text)) > MAX_WORDS]
    assert not long, f"more than {MAX_WORDS} words:\n" + "\n".join(long)


def test_a_long_sentence_is_seen() -> None:
    text = f"- `a b c` is short.\n  {'word ' * 30}end.\n\n| {'cell ' * 40} |\n"
    assert [len(text.split()) for text in sentences(text) if text] == [3, 31]


@pytest.mark.parametrize("page", LINKING, ids=lambda path: path.relative_to(CHECKOUT).as_posix())
def test_links_to_benchmarks_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        name, _, part = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if target.startswith("http") or not path.is_relative_to(BENCHMARKS):
            continue
        assert path.exists(), f"{page.name}: {target} leads nowhere"
        assert not part or part in {anchor(heading) for heading in headings(path)}, f"{page.name}: {path.name} has no heading #{part}"


def test_entries_that_the_code_names_exist() -> None:
    known = {name: set(headings(BENCHMARKS / name)) for name in ("LOG.md", "RESULTS.md")}
    named: list[str] = []
    for file in [*(CHECKOUT / "cnnkit").rglob("*.py"), *(CHECKOUT / "cnnkit").rglob("*.toml")]:
        text = re.sub(r"\s*\n\s*#?\s*", " ", file.read_text("utf-8"))  # a comment or docstring may break the line inside a link
        for page, heading in re.findall(r'docs/benchmarks/(LOG\.md|RESULTS\.md), "([^"]+)"', text):
            assert heading in known[page], f"{file.name}: {page} has no heading {heading!r}"
            named.append(heading)
    assert named


def test_log_has_its_newest_day_first() -> None:
    days = re.findall(r"^## (.+)$", LOG, re.MULTILINE)
    assert days == sorted(set(days), reverse=True)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", day) for day in days)


def test_log_tells_of_every_entry_what_was_tried_the_result_and_a_verdict() -> None:
    entries = re.split(r"^### ", LOG, flags=re.MULTILINE)[1:]
    titles = [entry.partition("\n")[0] for entry in entries]
    assert len(set(titles)) == len(titles) > 40
    for title, entry in zip(titles, entries, strict=True):
        parts = re.findall(r"^- \*\*(\w+)\*\*: ?(.*)$", entry, re.MULTILINE)
        assert [name for name, _ in parts] == ["Tried", "Result", "Verdict"], title
        assert re.match(r"\*(kept|negative|noted)\*", parts[2][1]), f"{title}: the verdict begins with none of *kept*, *negative*, *noted*"
    assert sum("egative*" in entry for entry in entries) > 10
