"""Commands on the pages: every one is valid, and those of the README and of docs/ run in the order of their page.

A line that starts with ``$ ``, and every line of a block of ``sh``, is a command of its page. It runs in a folder with the files that
pages speak of, made by `describe_world`. `shortened` cuts trainings. A command that cannot run here is in `NOT_RUN` with the reason.
"""

from __future__ import annotations

import ast
import csv
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnkit
from cnnkit.cli.app import main
from cnnkit.cli.help import HelpCommand
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import SECTIONS, by_section

CHECKOUT = Path(__file__).resolve().parents[2]
MADE_TO_RUN = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
PARSED = [*MADE_TO_RUN, CHECKOUT / "CONTRIBUTING.md", *sorted(CHECKOUT.glob("plugins/*/README.md"))]
PROGRAMS = {"awk", "find", "python"}  # other programs that run here
SETTINGS = {name: field.description for section in SECTIONS.values() for name, field in section.model_fields.items()}
# Complaints of the parser about a file that only a run can have, and about a command that the text only names, without its arguments.
OF_A_RUN, OF_A_NAME = ("does not exist",), ("does not exist", "Missing argument", "requires an argument", "Usage: cnnkit")

NOT_RUN = {  # by pattern of a whole line; * stands for any text
    "pip *": "installs packages",
    "uv pip *": "installs packages",
    "python -m venv *": "makes an environment",
    "source *": "enters an environment",
    "make *": "is a target of the Makefile, which installs packages; a test below looks the target up",
    "cnnkit plugins check *": "needs the package that its page makes",
    "cnnkit archs show tinynet*": "needs the package that its page makes",
    "cnnkit train --arch tinynet*": "needs the package that its page makes",
    "cnnkit train *shapes:200*": "needs the package that its page makes",
    "cnnkit train *shards/{*": "names shards that are not here; tests/data/shards reads some",
    "cnnkit train *s3://*": "reads a bucket; tests/data/shards/test_remote.py reads a server on this machine",
    "cnnkit archs show NAME *": "NAME stands for an architecture",
    "cnnkit *--weights pretrained*": "fetches weights from a hub or from a plugin; .ci/run trains with those of cnnkit-lite",
    "cnnkit *--weights lite0.safetensors*": "needs weights of ImageNet in a file",
    "cnnkit *--device cuda*": "needs a GPU",
    "cnnkit export --to litert": "needs the plugin cnnkit-litert, whose tests run it",
    "cnnkit *model.tflite*": "needs the plugin cnnkit-litert, whose tests run it",
    "cnnkit *--devices *": "starts several processes; tests/cli/test_ranks.py does so",
    "cnnkit serve*": "serves until it is stopped; tests/cli/test_serve.py does so",
    "curl *": "speaks to a server that runs",
    "tritonserver *": "needs the server of NVIDIA",
    "cnnkit tune *--storage postgresql:*": "needs a server of PostgreSQL",
    "python docs/case-study/run.py *": "trains for hours; tests/docs/test_case_study.py tests the script",
}
if find_spec("optuna") is None:
    NOT_RUN["cnnkit tune *"] = "needs Optuna, which the extra test installs"
CODES = {  # commands that end with another exit code than 0, by pattern of a whole line
    "cnnkit eval --abstain-risk *": (1, "cannot guarantee"),  # val of the folder has too few images for such a bound
}
FROM_NOTHING = {"docs/first-classifier.md"}  # pages for a reader without runs
# Flags that shorten a command, unless it has them; and the values of flags that a page sets.
SHORTER = {
    "train": {"--epochs": "1", "--precision": "fp32"},
    "more-data": {"--epochs": "1", "--precision": "fp32", "--shares": "1/4,1/2,1"},
    "lr-find": {"--steps": "40", "--precision": "fp32"},
    "benchmark": {"--seconds": "0.1"},
    "tune": {"--trials": "2", "--epochs": "1", "--precision": "fp32"},
}
SHORTER_OF_DATA = {"--batch-size": "8", "--precision": "fp32"}  # the same of a benchmark that takes flags of a training
SHORTER_VALUES = {"--epochs": "1", "--budget": "1s", "--batch-size": "16", "--trials": "2"}
INSTEAD = {"--epochs": "--budget", "--precision": "--deterministic"}  # flags that exclude each other


def lines_of(page: str) -> list[str]:
    """Return the commands of a page as they are typed, in their order."""
    found: list[str] = []
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append(line[2:])
            elif language == "sh" and line.strip() and not line.startswith("#"):
                found.append(line)
    return found


def inline_of(page: str) -> list[str]:
    """Return the commands that stand in the text of a page; one may lack arguments."""
    outside = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`(cnnkit [^`\n]+)`", outside)


def words_of(line: str) -> list[str]:
    """Return the words of a line of the shell, without its comment; ``|`` and ``>`` are words, and ``~`` is the home folder."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|>")
    lexer.whitespace_split = True
    return [str(Path(word).expanduser()) if word.startswith("~/") else word for word in lexer]


def reason(line: str) -> str | None:
    """Return the reason in `NOT_RUN` for which a line is not run; None if it is run."""
    return next((why for pattern, why in NOT_RUN.items() if fnmatchcase(line, pattern)), None)


def parts_of(words: Sequence[str]) -> tuple[list[list[str]], str | None]:
    """Return the commands of a pipe, and the file for the output of the last one."""
    target = words[words.index(">") + 1] if ">" in words else None
    parts: list[list[str]] = [[]]
    for word in words[: words.index(">")] if target else words:
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts, target


def shortened(words: list[str]) -> list[str]:
    """Return the words after ``cnnkit`` with a training of one epoch, or of one second."""
    short = [words[0]]
    for flag, word in pairwise(words):
        short.append(word if word == "auto" else SHORTER_VALUES.get(flag, word))
    trains = words[0] == "benchmark" and "--data" in words and "--model" not in words
    for flag, value in (SHORTER.get(words[0], {}) | (SHORTER_OF_DATA if trains else {})).items():
        if flag not in words and INSTEAD.get(flag) not in words and "--print-config" not in words:
            short += [flag, value]
    return short


def page_id(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    """Return a function that reads a command line by the real application, without running it, and returns the complaint or nothing."""
    seen: list[Any] = []
    monkeypatch.setattr(HelpCommand, "invoke", lambda _, context: seen.append(context))

    def read(words: list[str]) -> str:
        seen.clear()
        code = main(words)
        printed = capsys.readouterr()
        if code or not seen:
            return "" if code == 0 and printed.out else printed.err
        params, helps = seen[-1].params, {param.name: getattr(param, "help", "") for param in seen[-1].command.params}
        typed = {name: value for name, value in params.items() if value is not None and value != []}
        given = {name: value for name, value in typed.items() if name in SETTINGS and helps[name] == SETTINGS[name]}
        try:
            resolve(by_section(given), recipe=params.get("recipe"))
        except cnnkit.CnnkitError as error:
            return str(error)
        return ""

    return read


@pytest.mark.parametrize("page", PARSED, ids=page_id)
def test_commands_on_a_page_are_valid(page: Path, parse: Callable[[list[str]], str]) -> None:
    text = page.read_text("utf-8")
    whole = [part for line in lines_of(text) for part in parts_of(words_of(line))[0]]
    for words in [words for words in whole if words[0] == "cnnkit"]:
        complaint = parse(words[1:])
        assert not complaint or any(words in complaint for words in OF_A_RUN), f"{shlex.join(words)}: {complaint}"
    for line in inline_of(text):
        complaint = parse(words_of(line)[1:])
        assert not complaint or any(words in complaint for words in OF_A_NAME), f"{line}: {complaint}"


@pytest.mark.parametrize("page", MADE_TO_RUN, ids=page_id)
def test_every_command_on_a_page_is_run_or_listed(page: Path) -> None:
    for line in lines_of(page.read_text("utf-8")):
        if not reason(line):
            programs = {part[0] for part in parts_of(words_of(line))[0]}
            assert programs <= {"cnnkit", *PROGRAMS}, f"{line}: this program is not run here; NOT_RUN needs the line and the reason"


def test_every_reason_has_a_command() -> None:
    lines = [line for page in MADE_TO_RUN for line in lines_of(page.read_text("utf-8"))]
    unused = [pattern for pattern in [*NOT_RUN, *CODES] if not any(fnmatchcase(line, pattern) for line in lines)]
    assert not unused, f"no page has a command of the form {unused}"


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [words_of(line)[1] for page in PARSED for line in lines_of(page.read_text("utf-8")) if line.startswith("make ")]
    assert named
    assert set(named) <= targets


def test_extras_of_pip_exist() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    pages = "\n".join(page.read_text("utf-8") for page in PARSED)
    named = set(re.findall(r"pip install '(?:cnnkit|\.)\[(\w+)\]'", pages))
    assert named
    assert named <= set(project["optional-dependencies"])


def test_the_checks_see_what_is_wrong(parse: Callable[[list[str]], str]) -> None:
    page = "```console\n$ cnnkit train --data x  # why\n```\n`cnnkit eval`\n```sh\nfind . | cnnkit predict - > a.txt\n```\n"
    first, second = lines_of(page)
    assert words_of(first) == ["cnnkit", "train", "--data", "x"]
    assert parts_of(words_of(second)) == ([["find", "."], ["cnnkit", "predict", "-"]], "a.txt")
    assert inline_of(page) == ["cnnkit eval"]
    assert not parse(["eval", "--confusion"])
    assert "No such option" in parse(["train", "--confusion"])
    assert "No such command" in parse(["trane"])
    assert "--rotate" in parse(["train", "--rotate", "many"])
    assert "--recipe slow" in parse(["train", "--recipe", "slow"])
    assert "Missing argument" in parse(["predict"])
    assert shortened(["train", "--budget", "10m"]) == ["train", "--budget", "1s", "--precision", "fp32"]
    assert reason("make demo")
    assert not reason("cnnkit train --data ./images")


@pytest.fixture(scope="session")
def world(made_once: Callable[..., Path], image_writer: Callable[..., Path]) -> Path:
    """Return the folder with the files that pages speak of, made once."""
    return made_once("documented", lambda base: describe_world(base, image_writer))


def describe_world(base: Path, write_images: Callable[..., Path]) -> None:
    """Make images of three classes in several forms, two finished runs, a stopped run and an exported file."""
    from cnnkit.report.terminal.live import EpochTable

    images = write_images(base, ("bees", "cats", "dogs"), 45)
    for path in sorted(images.rglob("*.jpg")):  # five images of each patient
        number = int(path.stem[-3:])
        path.rename(path.with_name(f"patient-{number // 5:02d}-{number % 5}.jpg"))
    with (base / "images.csv").open("w", newline="") as file:
        rows = [(path.relative_to(base).as_posix(), path.parent.name) for path in sorted(images.rglob("*.jpg"))]
        csv.writer(file).writerows([("path", "label"), *rows])
    for number, name in enumerate(("new-photos", "other-images"), 1):
        write_images(base, ("bees", "cats", "dogs"), 12, folder=name, seed=number)
    for number, (name, count) in enumerate({"photos": 4, "more-photos": 4, "new": 32, "other": 32}.items(), 3):
        write_images(base, ("ants",), count, folder=name, seed=number)
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        shutil.copy(images / "bees" / "patient-00-0.jpg", base / name)

    def stop(table: EpochTable, epoch: Any) -> None:
        raise KeyboardInterrupt

    common = ("--data", str(images), "--precision", "fp32", "--batch-size", "16", "--device", "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        patch.setenv("CNNKIT_CACHE", str(base / "cache"))
        assert main(["train", *common, "--epochs", "6"]) == 0
        assert main(["export", "--onnx"]) == 0
        assert main(["train", *common, "--epochs", "2", "--arch", "residual-cnn", "--set", "width=16"]) == 0
        patch.setattr(EpochTable, "add", stop)
        assert main(["train", *common, "--epochs", "2", "--out", "stopped"]) == 130
    shutil.copytree(base / "runs/002-residual-cnn", base / "runs/003-timm-resnet18")  # another network of that name
    shutil.copy(base / "runs/002-residual-cnn/best.safetensors", base / "old.safetensors")
    shutil.copy(base / "runs/001-custom-cnn/export/model.onnx", base / "new.onnx")
    shutil.copytree(base / "runs/001-custom-cnn/export", base / "export")


@pytest.fixture
def documented(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory of the test with the files of `world`, of which images are links."""
    for entry in world.iterdir():
        if entry.name in {"runs", "export", "cache", "photos"}:  # find follows no links
            shutil.copytree(entry, tmp_path / entry.name, dirs_exist_ok=True)
        elif entry.name != "stopped":
            (tmp_path / entry.name).symlink_to(entry)
    shutil.copytree(tmp_path / "runs/003-timm-resnet18", tmp_path / "runs/002-timm-resnet18")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for link, target in {"ants-bees": world / "images", "moved/images": world / "images", "plugins": CHECKOUT / "plugins"}.items():
        (tmp_path / link).parent.mkdir(exist_ok=True)
        (tmp_path / link).symlink_to(target)
    return tmp_path


@pytest.fixture
def run_line(cli: Callable[..., Any], world: Path, documented: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, str]]:
    """Return a function that runs a line of the shell, its trainings shortened, and returns exit code and messages."""

    def run(line: str) -> tuple[int, str]:
        parts, target = parts_of(words_of(line))
        code, printed, said = 0, "", ""
        for words in parts:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(printed.encode())))
            if words[0] == "cnnkit":
                if words[1] == "resume":
                    stop_a_run(world, documented, words[2:])
                done = cli(*shortened(words[1:]))
                code, printed, said = done.code, done.out, done.err
            else:
                program = [sys.executable] if words[0] == "python" else [words[0]]
                ended = subprocess.run([*program, *words[1:]], input=printed, capture_output=True, text=True, check=False)
                code, printed, said = ended.returncode, ended.stdout, ended.stderr
        if target:
            Path(target).write_text(printed, "utf-8")
        return code, said

    return run


def stop_a_run(world: Path, folder: Path, arguments: Sequence[str]) -> None:
    """Put the stopped run of `world` where ``cnnkit resume ARGUMENTS`` looks for it."""
    named = arguments and not arguments[0].startswith("-")
    target = folder / (arguments[0] if named else "runs/999-custom-cnn")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(next((world / "stopped").iterdir()), target)


def commands_that_run(page: Path) -> list[str]:
    """Return the commands of a page that run here; one that the page repeats, with another comment perhaps, runs once."""
    distinct: dict[tuple[str, ...], str] = {}
    for line in lines_of(page.read_text("utf-8")):
        distinct.setdefault(tuple(words_of(line)), line)
    return [line for line in distinct.values() if not reason(line)]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in MADE_TO_RUN if commands_that_run(page)], ids=page_id)
def test_commands_on_a_page_work_in_their_order(page: Path, run_line: Callable[[str], tuple[int, str]]) -> None:
    if page_id(page) in FROM_NOTHING:
        shutil.rmtree("runs")
    for line in commands_that_run(page):
        expected, words = next((code for pattern, code in CODES.items() if fnmatchcase(line, pattern)), (0, ""))
        code, said = run_line(line)
        assert code == expected, f"{line}: exit code {code}\n{said}"
        assert words in said, f"{line}: {said}"


def python_blocks(page: Path) -> Iterator[str]:
    yield from re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


class Frame(dict[str, Any]):
    """A table with named columns, as pandas and polars have them."""

    @property
    def columns(self) -> list[str]:
        return list(self)


@pytest.mark.slow
def test_code_on_the_page_about_python_works_in_its_order(documented: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = cnnkit.train
    monkeypatch.setattr(cnnkit, "train", lambda *data, **settings: train(*data, **{**settings, "epochs": 1, "precision": "fp32"}))
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    labels = ["cats", "dogs"] * 30
    table = Frame(path=list(images), label=labels)
    names: dict[str, Any] = {"images": images, "labels": labels, "table": table, "new_images": images[:8], "new_labels": labels[:8]}
    for block in python_blocks(CHECKOUT / "docs/python.md"):
        exec(compile(ast.parse(block), "docs/python.md", "exec"), names)  # noqa: S102 (a page of this repository)
    assert names["evaluation"].report.n > 0
    assert (documented / "runs/004-residual-cnn/export/model.onnx").is_file()


def test_the_reference_is_that_of_the_command_line() -> None:
    """The width of the terminal and its colours change nothing."""
    script = [sys.executable, str(CHECKOUT / "docs/cli_reference.py"), "--check"]
    for terminal in ({"COLUMNS": "40", "TERM": "dumb", "NO_COLOR": "1"}, {"COLUMNS": "200", "TERM": "xterm-256color", "FORCE_COLOR": "1"}):
        environment = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
        done = subprocess.run(script, capture_output=True, text=True, env=environment | terminal, check=False)
        assert done.returncode == 0, done.stderr


def test_a_reference_that_is_not_current_is_told(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    page.write_text((CHECKOUT / "docs/cli.md").read_text("utf-8").replace("--epochs", "--rounds"), "utf-8")
    script = [sys.executable, str(CHECKOUT / "docs/cli_reference.py"), "--check", "--page", str(page)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "cli.md is not made of the command line of today: run python docs/cli_reference.py\n"
    assert "--rounds" in page.read_text("utf-8")
