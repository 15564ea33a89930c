from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from cnnkit.cli import console
from cnnkit.report.terminal.console import EscapingConsole

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


@pytest.mark.parametrize(
    ("words", "sentence", "following"),
    [
        ("eval", r"\d of 9 test images right, \d+ to \d+ %", "cnnkit report"),
        ("eval --split val", r"\d of 9 val images right, \d+ to \d+ %", "cnnkit report"),
        ("predict DATA/ants/ants-000.jpg", "1 row", "cnnkit explain DATA/ants/ants-000.jpg"),
        ("explain DATA/ants/ants-000.jpg --no-check --no-features", "1 image explained by .*", "cnnkit report"),
        ("doctor DATA", "61 images, 3 classes: .*", "cnnkit doctor DATA --html health.html"),
        ("split DATA", r"60 images in split\.csv", "cnnkit train --data DATA --split-file split.csv"),
        ("preview DATA --flip h", ".*", "cnnkit train --data DATA --flip h"),
        ("runs", "1 run under runs", "cnnkit info runs/001-custom-cnn"),
        ("info", "a model of 3 classes; .*", "cnnkit predict photo.jpg"),
        ("archs", "[0-9]+ architectures and families", "cnnkit archs show custom-cnn"),
        ("archs show custom-cnn --set width=8", ".*", "cnnkit train --data ./images --arch custom-cnn --set width=8"),
    ],
)
def test_a_command_ends_with_a_sentence_and_the_next_command(cli, trained, words: str, sentence: str, following: str) -> None:
    result = cli(*(word.replace("DATA", str(trained.data)) for word in words.split()))
    assert result.code == 0, result.err
    stream = next(text for text in (result.err, result.out) if text.rstrip().rpartition("\n")[2].startswith("next: "))
    summary, end = stream.replace(str(trained.data), "DATA").rstrip().rsplit("\n", 1)
    assert end == f"next: {following}"
    assert re.fullmatch(sentence, summary.rpartition("\n")[2])


def test_the_next_command_takes_the_model_that_was_named(cli, trained) -> None:
    result = cli("eval", "--model", trained.run, "--split", "val")
    assert result.out.rstrip().endswith(f"next: cnnkit report {trained.run}")
    result = cli("predict", trained.data / "bees", "--model", trained.run, "--out", "rows.csv")
    assert f"next: cnnkit explain {trained.data / 'bees'}" in result.err
    assert result.err.rstrip().endswith(f" --model {trained.run}")


def test_json_has_no_next_command(cli, trained) -> None:
    for words in (["eval"], ["runs"], ["doctor", trained.data], ["archs"]):
        result = cli(*words, "--json")
        result.json()
        assert "next: " not in result.err


def test_a_dry_run_names_the_training_and_the_weights(cli, image_folder) -> None:
    data = image_folder(images=8, size=(80, 72))
    result = cli("train", "--data", data, "--set", "width=8", "--epochs", "1", "--dry-run")
    assert result.code == 0, result.err
    assert f"next: cnnkit train --data {data} --set width=8 --epochs 1" in result.err
    assert f"cnnkit train --data {data} --arch " in " ".join(result.err.split())
    assert "under 500 a network learns more from ImageNet's weights" in " ".join(result.err.split())


@pytest.mark.parametrize(("with_images", "title"), [(False, "listing files"), (True, "reading images")])
def test_the_bar_counts_files_and_then_images(with_images: bool, title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    screen = EscapingConsole(file=stream, force_terminal=True, width=120)
    with console.progress(screen, "reading images") as update:
        update.files(1, 3)
        if with_images:
            update(20, 90)
    last = stream.getvalue().rpartition(title)[2]
    assert ("20/90" if with_images else "1/3") in last


def test_a_note_has_no_password() -> None:
    stream = io.StringIO()
    console.say(EscapingConsole(file=stream, width=120), "next: cnnkit train --data 'https://me:secret@host/a.tar?sig=secret'")
    assert stream.getvalue() == "next: cnnkit train --data 'https://me:***@host/a.tar?sig=***'\n"
