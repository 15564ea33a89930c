"""The pages as a site: every page has its entry, every picture its command, every question of the FAQ a short text and a command."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
SITE: dict[str, Any] = tomllib.loads((CHECKOUT / ".zensical.toml").read_text("utf-8"))["project"]
PAGES = sorted([CHECKOUT / "README.md", *DOCS.rglob("*.md")])
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.png)\)")
MADE_BY = re.compile(r"<!-- made by: (python [^>]+) -->\n!\[[^\]]*\]\(([^)\s]+\.png)\)")
QUESTIONS = re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", (DOCS / "faq.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)
MAX_SENTENCES = 5


def entries(nav: Any) -> Iterator[str]:
    for value in nav.values() if isinstance(nav, dict) else nav:
        if isinstance(value, str):
            yield value
        else:
            yield from entries(value)


def pictures(page: Path) -> list[str]:
    return PICTURE.findall(page.read_text("utf-8"))


def test_every_page_has_one_entry_in_the_navigation() -> None:
    named = list(entries(SITE["nav"]))
    assert sorted(named) == sorted(set(named))
    missing = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")} - set(named)
    assert not missing, f".zensical.toml has no entry for {missing}"
    assert not {name for name in named if not (DOCS / name).is_file()}, "an entry of .zensical.toml has no page"


def test_the_site_loads_nothing_from_other_hosts() -> None:
    assert SITE["theme"]["font"] is False
    assert "http" not in (DOCS / "site.css").read_text("utf-8")
    for page in PAGES:
        assert not re.findall(r"!\[[^\]]*\]\(https?:", page.read_text("utf-8")), page.name


@pytest.mark.parametrize("page", [page for page in PAGES if pictures(page)], ids=lambda page: page.relative_to(CHECKOUT).as_posix())
def test_every_picture_is_made_by_a_command(page: Path) -> None:
    made = {picture: command for command, picture in MADE_BY.findall(page.read_text("utf-8"))}
    for picture in pictures(page):
        assert picture in made, f"{page.name}: a line <!-- made by: python … --> is missing before {picture}"
        script = CHECKOUT / shlex.split(made[picture])[1]
        assert script.is_file(), f"{page.name}: {made[picture]}: there is no such script"
        assert (page.parent / picture).is_file()
        assert Path(picture).name in script.read_text("utf-8"), f"{script.name} does not name {Path(picture).name}"


def test_every_picture_is_on_a_page() -> None:
    shown = {(page.parent / picture).resolve() for page in PAGES for picture in pictures(page)}
    assert not set((DOCS / "images").glob("*.png")) - shown


def test_there_are_questions() -> None:
    assert len(QUESTIONS) >= 30
    assert len({title for title, _ in QUESTIONS}) == len(QUESTIONS)


@pytest.mark.parametrize(("title", "text"), QUESTIONS, ids=[title for title, _ in QUESTIONS])
def test_a_question_is_short_and_has_a_command(title: str, text: str) -> None:
    words, _, code = text.partition("```console\n")
    assert "?" in title
    assert code.startswith("$ "), f"{title}: no command"
    sentences = [sentence for sentence in re.split(r"(?<=[.!?])\s+", " ".join(words.split())) if sentence]
    assert len(sentences) <= MAX_SENTENCES, f"{title}: {len(sentences)} sentences"
