"""The documents of a run directory, each damaged at every location: the error names the file and the field."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnnkit.errors import ModelFileError
from cnnkit.run_dir import RunDir, StoredMetrics, record, write_metrics

Location = tuple[str | int, ...]
Read = Callable[[RunDir], object]

DOCUMENTS: dict[str, Read] = {
    "config.json": lambda run: run.read_record(),
    "eval/test/metrics.json": lambda run: run.read_metrics(run.evaluation("test")),
    "eval/test-tta/metrics.json": lambda run: run.read_metrics(run.evaluation("test-tta")),
}
FREE = ("versions", "arch.options", "label_sets.evaluated.sizes")  # objects of any keys
OPTIONAL = {"abstention", "label_sets", "ood", "tta", "opened"}  # missing in metrics.json where the evaluation had none
WRONG = {str: (7, {}), int: ("x", True, {}), float: ("x", True, {}), bool: ("true", 1, {}), list: (7, "x", {}), dict: (7, [])}


@pytest.fixture
def run(old_run: Path, tmp_path: Path) -> RunDir:
    """Return a copy of a run of the oldest format; the tests damage it."""
    shutil.copytree(old_run, tmp_path / "runs/001-custom-cnn")
    return RunDir(Path("runs/001-custom-cnn"))


def locations(value: object, location: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Yield every location in a JSON document with its value; the first item of a list stands for all items."""
    if location:
        yield location, value
    items = list(value.items()) if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else []
    for key, inner in items:
        yield from locations(inner, (*location, key))


def dotted(location: Location) -> str:
    return ".".join(map(str, location))


def changed(document: object, location: Location, change: Callable[[Any, Any], object]) -> object:
    """Return a copy of `document` after ``change(container, key)`` for the container and the key of the location."""
    whole: Any = copy.deepcopy(document)
    holder = whole
    for key in location[:-1]:
        holder = holder[key]
    change(holder, location[-1])
    return whole


def refusal(run: RunDir, name: str, document: object) -> str:
    """Return the error message for a document; empty if the document can be read."""
    (run.path / name).write_text(json.dumps(document))
    try:
        DOCUMENTS[name](run)
    except ModelFileError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_of_the_oldest_format_is_read_and_keeps_its_keys_and_values(run: RunDir, name: str) -> None:
    document = json.loads((run.path / name).read_text())
    assert "format" not in document
    read = DOCUMENTS[name](run)
    if isinstance(read, StoredMetrics):
        write_metrics((run.path / name).parent, StoredMetrics.model_validate({**document, "format": 1}))
    else:
        run.write_record(run.read_record())
    if name == "config.json":
        document["config"]["data"] |= {"min_images": 0, "exclude": []}  # LATER_SETTINGS
        document["config"]["optim"] |= {"freeze_norm": False, "loss": "cross-entropy"}
        document["config"]["augment"]["augment_with"] = []
        document |= {"trial": None, "extensions": [], "ranks": 1, "launch": ""}
        document["config"]["run"]["save_every"] = 0.0
        document["config"]["model"]["draft"] = False
        document["preprocessing"]["draft_side"] = None  # LATER_PREPROCESSING
        document["data"]["units"] = None  # not counted by older versions
    assert json.loads((run.path / name).read_text()) == {"format": 1, **document}
    assert DOCUMENTS[name](run) == read


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_missing_key_is_named(run: RunDir, name: str) -> None:
    document = json.loads((run.path / name).read_text())
    required = [
        location
        for location, _ in locations(document)
        if isinstance(location[-1], str)
        and not dotted(location).startswith(tuple(f"{free}." for free in FREE))
        and dotted(location) not in OPTIONAL
    ]
    assert len(required) > 60
    for location in required:
        said = refusal(run, name, changed(document, location, lambda holder, key: holder.pop(key)))
        assert said.startswith(f"{run.path}/{name}: `{dotted(location)}` is missing; "), (location, said)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_wrong_type_is_named_with_the_value(run: RunDir, name: str) -> None:
    document = json.loads((run.path / name).read_text())
    tried = 0
    for location, value in locations(document):
        if dotted(location).startswith("arch.options."):
            continue
        for wrong in WRONG.get(type(value), ({},)):
            said = refusal(run, name, changed(document, location, lambda holder, key, wrong=wrong: holder.__setitem__(key, wrong)))
            named = re.match(rf"{run.path}/{name}: `([\w.]+)`", said)
            assert named, (location, wrong, said)
            if named[1] not in {"config", "config.data"}:  # where a rule over several settings speaks
                assert f"{named[1]}.".startswith(f"{dotted(location).removesuffix('.0')}."), (location, wrong, said)
            tried += 1
    assert tried > 150


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_unknown_key_is_named_with_the_upgrade_command(run: RunDir, name: str) -> None:
    document = json.loads((run.path / name).read_text())
    objects = [(), *(location for location, value in locations(document) if isinstance(value, dict) and dotted(location) not in FREE)]
    for location in objects:
        said = refusal(run, name, changed(document, (*location, "surprise"), lambda holder, key: holder.update({key: 1})))
        assert said.startswith(f"{run.path}/{name}: `{dotted((*location, 'surprise'))}` is unknown to this version of cnnkit"), said
        assert "; if a newer cnnkit wrote it: pip install --upgrade cnnkit; " in said


def test_an_unknown_key_close_to_a_known_key_gets_a_suggestion(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    said = refusal(run, "config.json", document | {"statuss": "finished"})
    assert "`statuss` is unknown to this version of cnnkit; did you mean 'status'?" in said


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_newer_format_is_an_error_with_the_upgrade_command(run: RunDir, name: str) -> None:
    document = json.loads((run.path / name).read_text())
    said = refusal(run, name, {"format": 2, "everything": "else", "status": document.get("status")})
    assert said == (
        f"{run.path}/{name}: `format` (=2) is too new; this cnnkit reads formats up to 1; upgrade it: pip install --upgrade cnnkit"
    )
    assert refusal(run, name, document | {"format": 1}) == ""


@pytest.mark.parametrize("wrong", [0, -1, "1", 1.0, True, None])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_format_is_an_integer_of_at_least_1(run: RunDir, name: str, wrong: object) -> None:
    document = json.loads((run.path / name).read_text())
    assert f"`format` (={json.dumps(wrong)}) must be " in refusal(run, name, document | {"format": wrong})


@pytest.mark.parametrize(
    ("name", "location", "value", "problem"),
    [
        ("config.json", ("status",), "done", "must be 'running', 'stopped', 'failed', 'finished' or 'pruned'"),
        ("config.json", ("classes",), [], "must have at least 1 item"),
        ("config.json", ("runtime", "device"), "tpu", "must be 'cpu', 'cuda' or 'mps'"),
        ("config.json", ("result", "epochs"), -1, "must be greater than or equal to 0"),
        ("config.json", ("config", "optim", "epochs"), "3", "must be 3, as cnnkit writes it"),
        ("config.json", ("config", "optim", "lr"), -1, "must be a number above 0"),
        ("config.json", ("preprocessing", "image_size"), "32", "must be 32, as cnnkit writes it"),
        ("config.json", ("arch", "options", "width"), None, "must be a number, text, true or false"),
        ("config.json", ("data", "images"), None, "must be a JSON object"),
        ("config.json", ("notes",), {}, "must be a JSON list"),
        ("config.json", ("config", "run", "out"), 3, "must be text"),
        ("config.json", ("augmentation", "zoom"), [1, 2, 3], "must have at most 2 items, not 3"),
        ("eval/test/metrics.json", ("n",), 0, "must be greater than or equal to 1"),
        ("eval/test/metrics.json", ("accuracy", "value"), None, "must be a valid number"),
        ("eval/test/metrics.json", ("loss", "value"), float("nan"), "must be a finite number"),
        ("eval/test/metrics.json", ("calibration", "change"), "better", "must be 'none', 'fell', 'rose' or 'unclear'"),
    ],
)
def test_a_wrong_value_is_named_with_the_allowed_values(run: RunDir, name: str, location: Location, value: object, problem: str) -> None:
    document = json.loads((run.path / name).read_text())
    said = refusal(run, name, changed(document, location, lambda holder, key: holder.update({key: value})))
    assert f"`{dotted(location)}` (={json.dumps(value)}) {problem}" in said


def test_contradicting_settings_are_named_by_their_flags(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    document["config"]["optim"]["freeze_epochs"] = 2
    said = refusal(run, "config.json", document)
    assert "config.json: `config`: `--freeze-epochs` (=2) needs weights worth keeping: give --weights, or leave it out; " in said


def test_a_message_names_three_problems_and_cuts_long_values(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    said = refusal(run, "config.json", document | {"status": "x" * 500, "classes": 1, "runtime": 2, "notes": 3, "result": 4})
    assert said.count(" (=") == 3
    assert " and 2 more; " in said
    assert f'(="{"x" * 58}…)' in said


def test_names_in_a_file_are_escaped_in_the_message(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    said = refusal(run, "config.json", document | {"\x1b[31m\n": 1, "status": "\x1b[31m\n\udcff"})
    assert said.isprintable()


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not a JSON document (Expecting value: line 1 column 1 (char 0))"),
        (b'{"status": "finished"', "not a JSON document (Expecting ',' delimiter"),
        (b"\xff", "not a JSON document ('utf-8' codec can't decode"),
        (b"[" * 100_000, "not a JSON document ("),
        (b"[1]", "the document (=[1]) must be a JSON object"),
        (b"null", "the document (=null) must be a JSON object"),
    ],
    ids=["empty", "cut off", "no text", "deep", "list", "null"],
)
def test_a_file_that_is_not_a_document_is_named(run: RunDir, name: str, content: bytes, problem: str) -> None:
    (run.path / name).write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        DOCUMENTS[name](run)
    assert str(caught.value).startswith(f"{run.path}/{name}: {problem}")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_folder_instead_of_a_file_is_an_error(run: RunDir, name: str) -> None:
    (run.path / name).unlink()
    (run.path / name).mkdir()
    run.best.touch()
    with pytest.raises(ModelFileError, match=r"json: cannot be read: Is a directory; "):
        DOCUMENTS[name](run)


def test_a_message_ends_with_the_remedy(run: RunDir) -> None:
    again = f"; evaluate the model again: cnnkit eval --model {run.path}"
    assert refusal(run, "eval/test/metrics.json", {}).endswith(f"{again} --split test")
    assert refusal(run, "eval/test-tta/metrics.json", {}).endswith(f"{again} --split test --tta")
    assert refusal(run, "config.json", {}).endswith("; restore the file from a copy, or train again")
    run.best.touch()
    assert refusal(run, "config.json", {}).endswith(f"; to predict without it: cnnkit predict --model {run.best}")


def test_a_newer_setting_has_the_value_that_older_files_mean(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    del document["config"]["optim"]["ema"]
    check = record.strict_model(record.TrainConfig, {**record.LATER_SETTINGS, "optim": {**record.LATER_SETTINGS["optim"], "ema": 0.5}})
    assert check.func(document["config"]).optim.ema == 0.5  # pyright: ignore[reportCallIssue]


def test_a_run_that_is_older_than_draft_decoding_decodes_jpegs_whole(run: RunDir) -> None:
    document = json.loads(run.record_file.read_text())
    assert "draft" not in document["config"]["model"]
    assert "draft_side" not in document["preprocessing"]
    read = run.read_record()
    assert (read.config.model.draft, read.preprocessing.draft_side) == (False, None)
    del document["config"]["model"]
    assert "config.model" in refusal(run, "config.json", document)


def test_a_missing_evaluation_is_none(run: RunDir) -> None:
    assert run.read_metrics(run.evaluation("val")) is None


def test_names_that_are_not_utf_8_are_kept(run: RunDir) -> None:
    """JSON escapes such bytes of a file name; pydantic's own check of text refuses the escape."""
    document = json.loads(run.record_file.read_text())
    name = "caf\udce9.jpg"
    document["unreadable"] = [{"path": name, "error": "truncated"}]
    document["data"]["location"] = f"/photos/{name}"
    document["config"]["run"]["out"] = f"runs/{name}"
    document["command"].append(name)
    assert refusal(run, "config.json", document) == ""
    read = run.read_record()
    assert (read.unreadable[0].path, read.data.location, read.config.run.out) == (name, f"/photos/{name}", Path("runs") / name)
    run.write_record(read)
    document["config"]["data"] |= {"min_images": 0, "exclude": []}  # LATER_SETTINGS
    document["config"]["optim"] |= {"freeze_norm": False, "loss": "cross-entropy"}
    document["config"]["augment"]["augment_with"] = []
    document |= {"trial": None, "extensions": [], "ranks": 1, "launch": ""}
    document["config"]["run"]["save_every"] = 0.0
    document["config"]["model"]["draft"] = False
    document["preprocessing"]["draft_side"] = None  # LATER_PREPROCESSING
    document["data"]["units"] = None
    assert json.loads(run.record_file.read_text()) == {"format": 1, **document}
