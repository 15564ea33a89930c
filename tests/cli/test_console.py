from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cnnkit.cli import console

NAMES = ["\u732b", "caf\u00e9", "\udce9", "\U0001f408", "plain"]


def encoded(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace", newline="")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "cp1252", "ascii", "cp932", "utf-16", "latin-1"])
def test_json_loses_no_character_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = encoded(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    console.print_json(NAMES)
    stream.flush()
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert json.loads(written.decode(encoding)) == NAMES
    assert ("\u732b" in written.decode(encoding)) == (encoding in {"utf-8", "UTF8"})


@pytest.mark.parametrize(("encoding", "expected"), [("utf-8", True), ("UTF8", True), ("cp1252", False), ("utf-16", False)])
def test_streams_of_utf_8_are_known_by_any_of_its_names(encoding: str, expected: bool) -> None:
    assert console.is_utf8(encoded(encoding)) is expected


def test_settings_in_another_encoding_are_read_back(cli) -> None:
    from cnnkit.cli.app import main

    stream = encoded("cp1252")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(["train", "--data", "\u732b\U0001f408", "--print-config"]) == 0
    stream.flush()
    Path("s.toml").write_bytes(stream.buffer.getvalue())  # type: ignore[attr-defined]
    assert cli("train", "--config", "s.toml", "--print-config", "--json").json()["data"]["data"] == "\u732b\U0001f408"


def test_settings_with_a_name_that_toml_cannot_hold_are_refused(cli) -> None:
    result = cli("train", "--data", "caf\udce9", "--print-config")
    assert result.code == 2
    assert "the name is not UTF-8, and TOML cannot hold it; rename the file, or give the flag by itself" in " ".join(result.err.split())
