from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from cnnkit.cli.named_files import named_files
from cnnkit.errors import DataError


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_words_are_paths_in_the_order_given():
    assert named_files(["b.jpg", "a", "b.jpg"]) == [Path("b.jpg"), Path("a"), Path("b.jpg")]


def test_a_pattern_stands_for_its_matches_in_natural_order():
    for name in ("img10.jpg", "img9.jpg", "deep/er/img1.jpg", "[1].jpg", "1.jpg"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert named_files(["img*.jpg"]) == [Path("img9.jpg"), Path("img10.jpg")]
    assert named_files(["**/img1.jpg", "img?.jpg"]) == [Path("deep/er/img1.jpg"), Path("img9.jpg")]
    assert named_files(["[1].jpg"]) == [Path("[1].jpg")]  # a file of that name exists
    with pytest.raises(DataError, match=r"^no\*\.jpg: no file matches this pattern; name image files, or folders of images$"):
        named_files(["no*.jpg"])


@pytest.mark.parametrize("content", [b"a b.jpg\nc.jpg\n", b"a b.jpg\r\n\r\nc.jpg", b"a b.jpg\0c.jpg\0"])
def test_a_dash_stands_for_the_paths_on_standard_input(monkeypatch, content):
    type_in(monkeypatch, content)
    assert named_files(["x.jpg", "-"]) == [Path("x.jpg"), Path("a b.jpg"), Path("c.jpg")]


@pytest.mark.skipif(sys.platform == "win32", reason="names are not bytes")
def test_names_on_standard_input_need_not_be_utf_8(monkeypatch):
    type_in(monkeypatch, b"caf\xe9*.jpg\n")
    assert named_files(["-"]) == [Path(os.fsdecode(b"caf\xe9*.jpg"))]


def test_an_empty_standard_input_is_refused(monkeypatch):
    type_in(monkeypatch, b"\n")
    with pytest.raises(DataError, match=r"^-: standard input names no files; give one path a line"):
        named_files(["-"])


@pytest.mark.parametrize("word", ["https://example.org/a/cat.jpg?size=2", "s3://bucket/cat.jpg"])
def test_a_url_is_refused_in_one_sentence(word, monkeypatch):
    advice = f"{word}: a URL, and cnnkit reads only files; download it first, then type: cnnkit predict cat.jpg"
    with pytest.raises(DataError) as caught:
        named_files([word])
    assert str(caught.value) == advice
    type_in(monkeypatch, word.encode())
    with pytest.raises(DataError) as caught:
        named_files(["-"])
    assert str(caught.value) == advice
