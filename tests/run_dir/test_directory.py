from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import ConfigError, ModelFileError
from cnnkit.files import check_writable, fingerprint, restored, write_csv, write_json, write_text
from cnnkit.run_dir import RunDir, RunRecord, StoredMetrics, create, directory, find_run, newest, runs_folder, runs_in, write_metrics

Finish = Callable[..., RunDir]


@pytest.fixture
def finished(make_record: Callable[..., RunRecord]) -> Finish:
    """Return a function that writes the record of a run and, with `best`, an empty model file."""

    def finish(run: RunDir, status: str = "finished", *, best: bool = True) -> RunDir:
        run.write_record(make_record(status=status))
        if best:
            run.best.touch()
        return run

    return finish


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- numbering --------------------------------------------------------------------------------------------------------


def test_runs_are_numbered_in_order() -> None:
    out = Path("a/b")
    assert [create(out, arch).path for arch in ("custom-cnn", "custom-cnn", "deep")] == [
        out / "001-custom-cnn",
        out / "002-custom-cnn",
        out / "003-deep",
    ]


def test_a_gap_is_not_filled_and_numbers_grow_beyond_three_digits(tmp_path: Path) -> None:
    for name in ("007-x", "999-y", "012-z"):
        (tmp_path / name).mkdir()
    assert create(tmp_path, "a").path.name == "1000-a"
    assert create(tmp_path, "a").path.name == "1001-a"


def test_other_names_do_not_count_as_numbers(tmp_path: Path) -> None:
    for name in ("2024", "12-a", "notes", "abc-005-x"):
        (tmp_path / name).mkdir()
    (tmp_path / "050-file").touch()
    assert create(tmp_path, "a").path.name == "001-a"


def test_a_slash_in_the_name_becomes_a_hyphen(tmp_path: Path) -> None:
    assert create(tmp_path, "timm/resnet18").path == tmp_path / "001-timm-resnet18"


def test_trainings_that_start_together_get_separate_folders(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create(tmp_path, "a").path, range(40)))
    assert len(set(runs)) == 40
    assert names(tmp_path) == sorted(path.name for path in runs)


def test_a_number_that_another_training_takes_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    highest = directory._highest
    monkeypatch.setattr(directory, "_highest", lambda folder: (highest(folder), (folder / "001-a").mkdir(exist_ok=True))[0])
    assert create(tmp_path, "a").path.name == "002-a"


def test_an_out_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file/runs", "Not a directory")):
        for act in (lambda: create(out, "a"), lambda: check_writable(out)):  # noqa: B023 (called at once)
            with pytest.raises(
                ConfigError, match=re.escape(f"--out {out}: cannot write there ({reason}); name a folder you may write to: --out FOLDER")
            ):
                act()


def test_a_full_disk_is_an_error_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        check_writable(tmp_path)


def test_the_check_of_the_out_folder_leaves_no_file(tmp_path: Path) -> None:
    check_writable(tmp_path / "runs")
    assert names(tmp_path / "runs") == []


def test_the_environment_names_the_runs_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runs_folder() == Path("runs")
    monkeypatch.setenv("CNNKIT_RUNS", "elsewhere")
    assert runs_folder() == Path("elsewhere")
    monkeypatch.setenv("CNNKIT_RUNS", "")
    assert runs_folder() == Path("runs")


# --- the newest -------------------------------------------------------------------------------------------------------


def test_the_newest_finished_run_is_found_by_its_number(finished: Finish) -> None:
    runs = [finished(create(Path("runs"), name)) for name in ("b", "a", "c")]
    assert newest() == runs[2]
    os.utime(runs[0].path)  # the time of the folder does not count
    assert newest() == runs[2]


def test_the_newest_run_is_finished_unless_unfinished_runs_are_allowed(finished: Finish) -> None:
    done = finished(create(Path("runs"), "a"))
    stopped = finished(create(Path("runs"), "b"), "stopped")
    create(Path("runs"), "empty")
    assert newest() == done
    assert newest(finished=False) == stopped


@pytest.mark.parametrize("status", ["stopped", "failed", "running"])
def test_without_a_finished_run_the_newest_model_is_named_with_commands(finished: Finish, status: str) -> None:
    older = finished(create(Path("runs"), "a"), status)
    run = finished(create(Path("runs"), "a"), status)
    finished(create(Path("runs"), "a"), status, best=False)
    with pytest.raises(ModelFileError) as caught:
        newest()
    message = str(caught.value)
    assert f"{run.path} has not finished: name it with --model {run.path}, or continue it: cnnkit resume {run.path}" in message
    assert str(older.path) not in message


def test_without_a_run_the_message_says_how_to_train_one(finished: Finish) -> None:
    expected = "no finished run under runs; train one: cnnkit train --data FOLDER, or name a model: --model FILE"
    for prepare in (lambda: None, lambda: Path("runs").mkdir(), lambda: finished(create(Path("runs"), "a"), "stopped", best=False)):
        prepare()
        with pytest.raises(ModelFileError) as caught:
            newest()
        assert str(caught.value) == expected


@pytest.mark.parametrize("config", ["{broken", "[]", "null", "", '"text"', '{"status": "finished"}'])
def test_a_damaged_run_does_not_hide_a_good_run(finished: Finish, config: str) -> None:
    good = finished(create(Path("runs"), "a"))
    bad = finished(create(Path("runs"), "b"))
    (bad.path / "config.json").write_text(config)
    assert newest() == good
    assert newest(finished=False) == good


def test_the_newest_run_is_in_the_folder_of_the_environment(finished: Finish, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished(create(Path("elsewhere"), "a"))
    with pytest.raises(ModelFileError):
        newest()
    monkeypatch.setenv("CNNKIT_RUNS", "elsewhere")
    assert newest() == run


# --- renamed runs -----------------------------------------------------------------------------------------------------


def set_start(run: RunDir, time: float) -> None:
    """Set the start of the training of `run`, in seconds since 1970."""
    run.split_file.touch()
    os.utime(run.split_file, (time, time))


def test_a_run_has_the_number_of_its_folder_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    run = create(Path("runs"), "a")
    assert [run.number, RunDir(Path("runs/my-model")).number, RunDir(Path("12-a")).number] == [1, None, None]
    monkeypatch.chdir(run.path)
    assert RunDir(Path()).number == 1


def test_renamed_runs_follow_the_numbered_runs_newest_first(finished: Finish) -> None:
    numbered = [finished(create(Path("runs"), "a")) for _ in range(2)]
    for name, time in (("b-second", 2e9), ("a-first", 1e9), ("c-third", 3e9)):
        run = finished(create(Path("runs"), "renamed"))
        set_start(run, time)
        run.path.rename(Path("runs") / name)
    assert finished(RunDir(Path("runs/z-lost"))).began is None
    names = [path.name for path in runs_in(Path("runs"))]
    assert names == ["002-a", "001-a", "c-third", "b-second", "a-first", "z-lost"]
    assert newest() == numbered[1]


def test_the_newest_run_is_found_among_renamed_runs(finished: Finish) -> None:
    for name, status, time in (("old", "finished", 1e9), ("new", "finished", 2e9), ("newer", "stopped", 3e9)):
        run = finished(create(Path("runs"), "a"), status)
        set_start(run, time)
        run.path.rename(Path("runs") / name)
    assert newest().path == Path("runs/new")
    assert newest(finished=False).path == Path("runs/newer")


def test_a_folder_is_a_run_because_of_its_files(finished: Finish) -> None:
    run = finished(create(Path("runs"), "a"))
    finished(create(Path("runs"), "lost")).record_file.unlink()
    create(Path("runs"), "empty")
    Path("runs/notes").mkdir()
    Path("runs/notes/split.csv").touch()
    Path("runs/config.json").touch()
    Path("runs/latest").symlink_to(run.path.absolute())
    assert [path.name for path in runs_in(Path("runs"))] == ["002-lost", "001-a"]


def test_a_renamed_run_frees_its_number_and_a_folder_without_a_run_keeps_one(finished: Finish) -> None:
    for name in ("a", "b"):
        finished(create(Path("runs"), name))
    Path("runs/002-b").rename("runs/mine")
    assert create(Path("runs"), "c").path.name == "002-c"
    Path("runs/007-notes").mkdir()
    assert create(Path("runs"), "d").path.name == "008-d"


# --- contents of the files --------------------------------------------------------------------------------------------


def test_the_record_is_read_as_it_was_written(tmp_path: Path, make_record: Callable[..., RunRecord]) -> None:
    run = create(tmp_path, "a")
    record = make_record(status="running", classes=["Käfer", "蟻"], notes=["caf\udce9.jpg"])
    run.write_record(record)
    assert run.read_record() == record


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"not a run directory \(it has no config\.json\); expected a folder that cnnkit train wrote"):
        RunDir(tmp_path).read_record()


def test_a_run_without_its_record_is_still_a_run(tmp_path: Path) -> None:
    run = create(tmp_path, "a")
    run.best.touch()
    with pytest.raises(ModelFileError) as caught:
        run.read_record()
    assert str(caught.value) == (
        f"{run.path}/config.json: cannot be read: No such file or directory; restore the file from a copy; to predict without it: "
        f"cnnkit predict --model {run.best}"
    )


def test_a_label_of_an_unknown_class_is_an_error(old_run: Path) -> None:
    run = RunDir(old_run)
    rows = run.read_split(run.read_record().classes)
    assert len(rows) == 150
    named = re.escape(f"row {1 + [row['label'] for row in rows].index('bees')}, column label (='bees') is no class of config.json; ")
    with pytest.raises(ModelFileError, match=named):
        run.read_split(("ants", "wasps"))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"path,label,split\na,b,train\n", "no column sha256 in its first line"),
        (b"", "no column path in its first line"),
        (b"path,label,split,sha256,unit\na,b,train,c,1\na,b,train\n", "row 2 ends before its column sha256"),
        (b"path,label,split,sha256\na,b,tarin,c\n", "row 1, column split (='tarin') must be train, val, test"),
    ],
)
def test_a_damaged_split_is_an_error_that_names_row_and_column(tmp_path: Path, content: bytes, problem: str) -> None:
    run = RunDir(tmp_path)
    run.split_file.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        run.read_split()
    assert str(caught.value) == (f"{run.split_file}: {problem}; restore the file from a copy, or name the images with --data")


def test_the_files_have_their_documented_names(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    paths = [run.best, run.last, run.split_file, run.history, run.evaluation("test"), run.export]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "best.safetensors",
        "last",
        "split.csv",
        "history.csv",
        "eval/test",
        "export",
    ]


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_json_is_readable_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "deep/er/x.json", {"a": [1, "é"]})
    text = (tmp_path / "deep/er/x.json").read_text("utf-8")
    assert text == '{\n  "a": [\n    1,\n    "é"\n  ]\n}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, {1, 2}])
def test_invalid_json_is_an_error_and_leaves_no_file(tmp_path: Path, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", {"a": value})
    assert names(tmp_path) == []


def failing(kind: str) -> Any:
    plain_open = Path.open

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def open_to_read(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
        return fail() if "w" in mode else plain_open(path, mode, *arguments, **keywords)

    return {"write": ("open", open_to_read), "rename": ("replace", fail)}[kind]


@pytest.mark.parametrize("kind", ["write", "rename"])
def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"old": 1})
    before = file.read_bytes()
    monkeypatch.setattr(Path, *failing(kind))
    for act in (lambda: write_json(file, {"new": 2}), lambda: write_text(file, "new"), lambda: write_csv(file, ["a"], [{"a": 1}])):
        with pytest.raises(OSError, match=r"No space left on device: '.*/x\.json'"):
            act()
    assert names(tmp_path) == ["x.json"]
    assert file.read_bytes() == before


def test_the_file_is_whole_when_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content is written to a temporary file first."""
    seen: list[tuple[bool, str]] = []
    replace = Path.replace

    def watch(self: Path, target: Path) -> Path:
        seen.append((target.exists(), self.read_text()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    write_text(tmp_path / "x.txt", "all of it")
    assert seen == [(False, "all of it")]
    assert names(tmp_path) == ["x.txt"]


def test_a_csv_with_a_wrong_row_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    write_csv(file, ["a", "b"], [{"a": 1, "b": "x,y"}])
    with pytest.raises(ValueError, match="surprise"):
        write_csv(file, ["a", "b"], [{"a": 1, "b": 2}, {"a": 1, "surprise": 3}])
    assert names(tmp_path) == ["x.csv"]
    with file.open(newline="", encoding="utf-8") as lines:
        assert list(csv.DictReader(lines)) == [{"a": "1", "b": "x,y"}]


def test_csv_lines_end_as_in_rfc_4180(tmp_path: Path) -> None:
    write_csv(tmp_path / "x.csv", ["a"], [{"a": "line\nbreak"}])
    assert (tmp_path / "x.csv").read_bytes() == b'a\r\n"line\nbreak"\r\n'


def test_every_file_is_utf_8_and_names_that_are_not_are_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    write_csv(tmp_path / "x.csv", ["path"], [{"path": name}])
    assert (tmp_path / "x.csv").read_text("utf-8") == "path\ncaf\\udce9.jpg\n"
    assert restored((tmp_path / "x.csv").read_text("utf-8")) == f"path\n{name}\n"
    write_json(tmp_path / "x.json", {"path": name})
    assert json.loads((tmp_path / "x.json").read_bytes().decode("utf-8", "surrogateescape")) == {"path": name}


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"(Not a directory|File exists): '.*/file'"):
        write_text(tmp_path / "file/x.txt", "text")


def test_a_run_is_found_by_its_path_or_by_its_name(finished: Finish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("001-a", "best so far"):
        Path("runs", name).mkdir(parents=True)
        finished(RunDir(Path("runs", name)))
    assert find_run("best so far") == Path("runs/best so far")
    assert find_run(Path("runs/001-a")) == Path("runs/001-a")
    assert find_run("nowhere") == Path("nowhere")
    assert find_run(str(tmp_path / "runs/001-a")) == tmp_path / "runs/001-a"
    Path("001-a").mkdir()
    assert find_run("001-a") == Path("runs/001-a"), "a folder that is no run hides none"
    finished(RunDir(Path("001-a")))
    assert find_run("001-a") == Path("001-a")
    monkeypatch.setenv("CNNKIT_RUNS", str(tmp_path / "runs"))
    assert find_run("best so far") == tmp_path / "runs/best so far"


@pytest.fixture
def evaluated(tmp_path: Path, make_metrics: Callable[..., StoredMetrics]) -> Callable[..., RunDir]:
    """Return a function that writes a run with a model file and metrics of eval/test: ``evaluated(n=35)``."""

    def write(**changes: object) -> RunDir:
        run = RunDir(tmp_path / "001-a")
        run.path.mkdir(exist_ok=True)
        run.best.write_text("model")
        os.utime(run.best, (1, 1))
        write_metrics(run.evaluation("test"), make_metrics(**changes))
        return run

    return write


def test_the_plain_evaluation_of_all_images_is_whole(evaluated: Callable[..., RunDir]) -> None:
    whole = evaluated().read_whole_metrics("test", 35)
    assert whole is not None
    assert whole.n == 35
    assert evaluated().read_whole_metrics("val", 35) is None
    assert evaluated(unreadable=[{"path": "a", "error": "b"}]).read_whole_metrics("test", 36) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"n": 12},  # of some classes, by an older version
        {"images": {"classes": ["ants"]}},
        {"images": {"source": "photos", "sha256": "ab", "classes": []}},
        {"tta": {"views": 6, "mirror": "h", "shift_pixels": 1, "mean_of": "logits"}},
        {"model": {"file": "model.onnx", "sha256": "ab"}},
    ],
)
def test_an_evaluation_of_a_part_or_of_another_file_is_not_whole(evaluated: Callable[..., RunDir], change: dict[str, object]) -> None:
    assert evaluated(**change).read_whole_metrics("test", 35) is None


def test_the_evaluation_of_an_older_model_is_not_used(evaluated: Callable[..., RunDir]) -> None:
    run = evaluated()
    os.utime(run.best)
    os.utime(run.evaluation("test") / "metrics.json", (2, 2))
    assert run.read_whole_metrics("test", 35) is None
    run = evaluated(model={"file": "best.safetensors", "sha256": fingerprint(run.best)})
    os.utime(run.best)
    os.utime(run.evaluation("test") / "metrics.json", (2, 2))
    assert run.read_whole_metrics("test", 35) is not None
    run.best.unlink()
    assert run.read_whole_metrics("test", 35) is not None


@pytest.mark.parametrize(
    ("folder", "flags"),
    [
        ("eval/val", " --split val"),
        ("eval/test-tta", " --split test --tta"),
        ("eval/test-cats-01234567", ""),
        ("eval/photos-all-01234567", ""),
        ("elsewhere/test", ""),
    ],
)
def test_the_error_of_damaged_metrics_has_the_command(tmp_path: Path, folder: str, flags: str) -> None:
    run = RunDir(tmp_path)
    (run.path / folder).mkdir(parents=True)
    (run.path / folder / "metrics.json").write_text("{")
    with pytest.raises(ModelFileError) as damaged:
        run.read_metrics(run.path / folder)
    assert str(damaged.value).endswith(f"evaluate the model again: cnnkit eval --model {run.path}{flags}")


def test_the_error_of_damaged_metrics_names_the_exported_file(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    folder = run.evaluation("test-model.onnx")
    for path in (run.export, folder):
        path.mkdir(parents=True)
    (run.export / "model.onnx").touch()
    (folder / "metrics.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"cnnkit eval --model .*/export/model\.onnx --split test$"):
        run.read_metrics(folder)
