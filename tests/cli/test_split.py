from __future__ import annotations

import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from cnnkit.cli.split import split_table


def plain(counts: dict[str, dict[str, int]]) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(split_table(counts))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_table_counts_the_rows_of_the_file(cli, image_folder, read_rows):
    result = cli("split", image_folder(images=20), "--split", "0.5/0.25/0.25", "--out", "here/split.csv")
    assert result.code == 0, result.err
    assert "60 images in here/split.csv" in result.out
    rows = read_rows("here/split.csv")
    assert list(rows[0]) == ["path", "label", "split", "sha256", "unit"]
    counts = Counter((row["label"], row["split"]) for row in rows)
    for line in result.out.splitlines():
        words = line.split()
        if words and words[0] in {"ants", "bees", "wasps"}:
            assert [int(word) for word in words[1:]] == [counts[words[0], split] for split in ("train", "val", "test")]
    assert sum("ants" in line for line in result.out.splitlines()) == 1


def test_json_has_the_counts(cli, image_folder, read_rows):
    shown = cli("split", image_folder(["ants", "bees"], images=20), "--json").json()
    assert shown["file"] == "split.csv"
    assert shown["unreadable"] == []
    assert {label: sum(row.values()) for label, row in shown["counts"].items()} == {"ants": 20, "bees": 20}
    assert len(read_rows("split.csv")) == 40


def test_seed_and_classes_change_the_split(cli, image_folder, read_rows):
    folder = image_folder(images=20)
    for seed in ("0", "0", "1"):
        assert cli("split", folder, "--classes", "ants,bees", "--seed", seed, "--out", f"{seed}.csv").code == 0
    zero, one = ({row["path"]: row["split"] for row in read_rows(name)} for name in ("0.csv", "1.csv"))
    assert set(zero) == set(one)
    assert zero != one
    assert {path.split("/")[0] for path in zero} == {"ants", "bees"}


def test_images_of_an_earlier_split_file_keep_their_split(cli, image_folder, read_rows):
    folder = image_folder(images=10)
    assert cli("split", folder, "--seed", "3", "--out", "old.csv").code == 0
    image_folder(images=20)
    assert cli("split", folder, "--split-file", "old.csv", "--out", "new.csv").code == 0
    old, new = ({row["path"]: row["split"] for row in read_rows(name)} for name in ("old.csv", "new.csv"))
    assert len(new) == 2 * len(old)
    assert {path: new[path] for path in old} == old


def test_by_path_opens_no_image(cli, image_folder, read_rows):
    folder = image_folder(images=20)
    (folder / "ants" / "ants-000.jpg").write_bytes(b"no image")
    result = cli("split", folder, "--by", "path")
    assert result.code == 0
    assert "copies" in result.err
    assert len(read_rows("split.csv")) == 60


def test_unreadable_images_are_named(cli, image_folder, read_rows):
    folder = image_folder(images=20)
    (folder / "ants" / "ants-000.jpg").write_bytes(b"no image")
    result = cli("split", folder)
    assert "skipped 1 unreadable image:" in result.err
    assert "ants/ants-000.jpg" in result.err
    assert len(read_rows("split.csv")) == 59


@pytest.mark.parametrize(("flags", "said"), [(("--split", "0.5/0.1"), "shares that sum to 1"), (("--split-file", "gone.csv"), "gone.csv")])
def test_usage_errors(cli, image_folder, flags, said):
    result = cli("split", image_folder(images=10), *flags)
    assert result.code == 2
    assert said in result.err
    assert not Path("split.csv").exists()


def test_the_table_has_totals_and_leaves_out_an_unused_split():
    lines = plain({"[b]ants": {"train": 1_000, "val": 20, "test": 0}, "猫\n": {"train": 1, "val": 2, "test": 0}})
    assert lines[0].split() == ["class", "train", "val"]
    assert lines[2].split() == ["[b]ants", "1,000", "20"]
    assert lines[3].split() == ["猫\\n", "1", "2"]
    assert lines[-1].split() == ["all", "1,001", "22"]


def test_a_long_table_shows_the_smallest_classes():
    lines = plain({f"class {index}": {"train": 100 - index, "val": 1, "test": 1} for index in range(40)})
    assert lines[2].startswith("class 39 ")
    assert not any(line.startswith("class 0 ") for line in lines)
    assert any("The 30 smallest of 40 classes." in line for line in lines)
