"""Hostile files of every kind that a command reads: configurations, tables, model files, exported files, runs, devices."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

DEEP = 100_000
TOML = {
    "deep lists": "model = " + "[" * DEEP,
    "deep tables": "a = " + "{a = " * DEEP,
    "a number of 5,000 digits": "[optim]\nepochs = " + "9" * 5_000,
    "a key of 20,000 parts": ".".join(["a"] * 20_000) + " = 1",
    "a key of 20,000 quoted parts": " . ".join(['"a"', "'b'"] * 10_000) + " = 1",
    "a table of 20,000 parts": "[" + ".".join(["a"] * 20_000) + "]",
    "a key of 20,000 parts in a table": "x = {" + ".".join(["a"] * 20_000) + " = 1}",
    "300 kB": "#" * 300_000,
    "not UTF-8": b"\xff\xfe\x00",
    "nan": "[optim]\nlr = nan",
    "infinity": "[optim]\nlr = inf",
    "a date": "[optim]\nepochs = 2020-01-01",
    "a table for a number": "[optim.epochs]\na = 1",
    "a number for a section": "optim = 3",
    "numbers in set": "[model]\nset = [1, 2]",
    "a text in set": "[model]\nset = 3",
    "a table in set": "[model]\nset = {a = 1}",
    "a list for the recipe": "recipe = ['default']",
    "a number of tiers": "larger = 3",
    "a tier of texts": "larger = ['a']",
    "a long text": "[optim]\noptimizer = '" + "a" * 200_000 + "'",
    "an unknown section": "[" + "b" * 100_000 + "]",
    "nul": "a = '\0'",
    "nothing but quotes": "'" * 100_000,
}


@pytest.mark.parametrize("content", TOML.values(), ids=TOML)
def test_a_hostile_configuration(refused: Callable[..., str], tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "train.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("train", "--config", file, "--data", "digits", "--dry-run")


TABLES = {
    "a line of 3 MB": "path,split\n" + "a" * 3_000_000,
    "one cell of 200 kB": 'path,split\n"' + "a" * 200_000 + '",train\n',
    "an open quotation mark": 'path,split\n"a,train\n' * 50,
    "nul": "path,split\na\0b,train\n",
    "UTF-16": "path,split\na,train\n".encode("utf-16"),
    "nothing": "",
    "no columns": "\n\n\n",
    "20,000 columns": ",".join(["a"] * 20_000),
    "two columns of one name": "path,path,split\n",
    "a path out of the folder": "path,split\n../../../etc/passwd,train\n",
    "a formula": "path,split\n=1+1,train\n",
    "digits": "path,split\n" + "9" * 5_000 + ",train\n",
    "an image for a table": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
}


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
def test_a_hostile_split_file_and_table(
    refused: Callable[..., str], image_folder: Callable[..., Path], tmp_path: Path, content: str | bytes
) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused("split", image_folder(images=4), "--split-file", file)
    file.write_bytes(content if isinstance(content, bytes) else content.replace("split", "label").encode())
    refused("train", "--data", file)


def test_class_names_of_5000_digits_are_sorted_as_numbers(
    tmp_path: Path, cli: Callable[..., Any], image_folder: Callable[..., Path]
) -> None:
    folder = image_folder(images=6)
    names = {"ants": "9" * 5_000, "bees": "1" + "0" * 5_000, "wasps": "8" * 5_000}
    rows = [f"{path.relative_to(tmp_path)},{names[path.parent.name]}" for path in sorted(folder.rglob("*.jpg"))]
    (tmp_path / "x.csv").write_text("\n".join(["path,label", *rows]))
    done = cli("doctor", tmp_path / "x.csv", "--json")
    assert done.code == 0, done.err
    assert list(done.json()["classes"]) == ["8" * 5_000, "9" * 5_000, "1" + "0" * 5_000]


HEADERS: dict[str, dict[str, Any]] = {
    "no classes": {"classes": []},
    "one class": {"classes": ["a"]},
    "two equal classes": {"classes": ["a", "a", "b"]},
    "an empty class": {"classes": ["", "a", "b"]},
    "a number as class": {"classes": [1, 2, 3]},
    "a class too many": {"classes": ["a", "b", "c", "d"]},
    "30,000 classes": {"classes": [str(number) for number in range(30_000)]},
    "temperature 0": {"temperature": 0},
    "temperature nan": {"temperature": float("nan")},
    "temperature infinity": {"temperature": float("inf")},
    "temperature below 0": {"temperature": -1},
    "a huge temperature": {"temperature": 1e300},
    "a text as temperature": {"temperature": "hot"},
    "image size 0": {"preprocessing.image_size": 0},
    "image size 10^9": {"preprocessing.image_size": 10**9},
    "image size 10^400": {"preprocessing.image_size": 10**400},
    "means that are no numbers": {"preprocessing.mean": [float("nan")] * 3},
    "two means": {"preprocessing.mean": [0.5, 0.5], "preprocessing.std": [1, 1]},
    "no means": {"preprocessing.mean": [], "preprocessing.std": []},
    "deviations of 0": {"preprocessing.std": [0, 0, 0]},
    "infinite deviations": {"preprocessing.std": [float("inf")] * 3},
    "five channels": {"preprocessing.channels": 5},
    "a crop of 10^-300": {"preprocessing.crop": 1e-300},
    "a crop that is no number": {"preprocessing.crop": float("nan")},
    "an unknown interpolation": {"preprocessing.interpolation": "magic"},
    "an unknown resize mode": {"preprocessing.resize_mode": "magic"},
    "an unknown architecture": {"arch": "no-such-net"},
    "an architecture out of the folder": {"arch": "../../../etc/passwd"},
    "a long architecture": {"arch": "a" * 100_000},
    "a module as architecture": {"arch": "os:system"},
    "a family": {"arch": "timm"},
    "an unknown option": {"options.evil": 1},
    "a text as width": {"options.width": "64"},
    "a yes as width": {"options.width": True},
    "a width of 10^9": {"options.width": 10**9},
    "a width of 10^400": {"options.width": 10**400},
    "a large width": {"options.width": 50_000},
    "a width below 0": {"options.width": -5},
    "many blocks": {"options.blocks": 900},
    "a dropout that is no number": {"options.dropout": float("nan")},
    "a list as option": {"options.width": [1]},
    "101 options": {f"options.a{number}": 1 for number in range(101)},
    "format 2": {"format": 2},
    "format -1": {"format": -1},
    "a text as epoch": {"training.epoch": "last"},
    "a list as data": {"training.data": [1]},
    "a text as images": {"training.data": {"name": "x", "sha256": "y", "images": "z"}},
    "a number as augmentation": {"training.augmentation": 3},
    "an infinite shift": {"training.augmentation": {"flip": "h", "shift": float("inf")}},
    "a threshold of 2": {"label_sets": {"threshold": 2.0, "coverage": 0.9, "n": 10, "split": "val"}},
    "a threshold that is no number": {"label_sets": {"threshold": float("nan"), "coverage": 0.9, "n": 10, "split": "val"}},
    "a count below 0": {"label_sets": {"threshold": 0.5, "coverage": 0.9, "n": -1, "split": "val"}},
    "a fingerprint of other classes": {"fingerprint": {"features": ["a"], "edges": [[0.5]], "counts": [[[1, 2]]], "n": 3, "split": "val"}},
    "a fingerprint with a range for another number of features": {
        "fingerprint": {"features": ["a"], "edges": [[0.5]], "counts": [[[1, 2]] * 3], "n": 3, "split": "val", "ranges": [[0, 1], [0, 1]]}
    },
    "a fingerprint with a descending range": {
        "fingerprint": {"features": ["a"], "edges": [[0.5]], "counts": [[[1, 2]] * 3], "n": 3, "split": "val", "ranges": [[1, 0]]}
    },
    "a fingerprint of unknown features": {
        "fingerprint": {"features": ["a"], "edges": [[0.5]], "counts": [[[1, 2]] * 3], "n": 3, "split": "val", "ranges": [[0, 1]]}
    },
    "a fingerprint without bins": {"fingerprint": {"features": ["a"], "edges": [[]], "counts": [[[], [], []]], "n": 3, "split": "val"}},
    "an unknown field": {"evil": 1},
    "classes nested deeply": {"classes": "DEEP"},
}


def rewritten(path: Path, changes: dict[str, Any]) -> None:
    """Change values of the header of the model file `path`, by their dotted names; drop the digests, as a file of an older version."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + size])
    document = json.loads(head["__metadata__"]["cnnkit"])
    for name, value in changes.items():
        part = document
        *outer, last = name.split(".")
        for key in outer:
            part = part[key]
        part[last] = value
    head["__metadata__"]["cnnkit"] = json.dumps(document).replace('"DEEP"', "[" * DEEP + "]" * DEEP)
    head["__metadata__"] = {"cnnkit": head["__metadata__"]["cnnkit"]}
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


@pytest.mark.parametrize("changes", HEADERS.values(), ids=HEADERS)
def test_a_hostile_header_of_a_model_file(
    refused: Callable[..., str], cli: Callable[..., Any], trained: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    file = tmp_path / "x.safetensors"
    shutil.copy(trained.run / "best.safetensors", file)
    rewritten(file, changes)
    photo = next(trained.data.rglob("*.jpg"))
    assert "x.safetensors" in refused("predict", photo, "--model", file).replace("\n", "") or "arch" in "".join(changes)
    shown = cli("info", file, "--json")
    assert shown.code in {0, 2}
    assert "Traceback" not in shown.err


def test_weights_that_are_no_numbers(refused: Callable[..., str], trained: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = tmp_path / "x.safetensors"
    raw = (trained.run / "best.safetensors").read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    save_file(
        {
            name: tensor * float("nan") if tensor.is_floating_point() else tensor
            for name, tensor in load_file(trained.run / "best.safetensors").items()
        },
        file,
        {name: value for name, value in metadata.items() if name == "cnnkit"},  # without digests, as in a file of an older version
    )
    assert "no numbers" in refused("predict", trained.data, "--model", file)


CONTAINERS = {
    "nothing": b"",
    "a length beyond the file": (2**40).to_bytes(8, "little"),
    "a length of 2^64": b"\xff" * 8,
    "a list": b"\x02\0\0\0\0\0\0\0[]",
    "deep lists": (DEEP).to_bytes(8, "little") + b"[" * DEEP,
    "no JSON": b"\x04\0\0\0\0\0\0\0oops",
    "a huge shape": b'{"a":{"dtype":"F32","shape":[999999999999,999999999999],"data_offsets":[0,4]}}',
    "a shape below 0": b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    "a shape of texts": b'{"a":{"dtype":"F32","shape":["a"],"data_offsets":[0,4]}}',
    "a shape of 5,000 digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 5_000 + b'],"data_offsets":[0,4]}}',
    "an unknown type": b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}',
    "offsets beyond the file": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,99999]}}',
    "metadata of numbers": b'{"__metadata__":{"cnnkit":3}}',
    "metadata as list": b'{"__metadata__":[1]}',
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.",
}


@pytest.mark.parametrize("content", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize("suffix", [".safetensors", ".onnx", ".pth"])
def test_a_hostile_container(
    refused: Callable[..., str], image_folder: Callable[..., Path], tmp_path: Path, content: bytes, suffix: str
) -> None:
    file = tmp_path / f"x{suffix}"
    file.write_bytes(len(content).to_bytes(8, "little") + content + bytes(4) if content[:1] == b"{" else content)
    data = image_folder(images=4)
    if suffix != ".pth":
        refused("predict", data, "--model", file)
    if suffix == ".safetensors":
        refused("info", file)
    if suffix != ".onnx":
        refused("train", "--data", data, "--weights", file, "--dry-run", "--epochs", "1")
    assert not Path("pwned").exists()


def onnx_file(path: Path, nodes: list[Any], **metadata: str) -> None:
    """Write an ONNX file whose `nodes` compute ``probabilities`` (N, 2) and ``labels`` from ``images``."""
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])
    outputs = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["N"]),
    ]
    constants = [
        helper.make_tensor("two", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        helper.make_tensor("huge", TensorProto.INT64, [1], [2**34]),
        helper.make_tensor("forever", TensorProto.INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]),
        helper.make_tensor("nan", TensorProto.FLOAT, [], [float("nan")]),
    ]
    graph = helper.make_graph(
        [
            *nodes,
            helper.make_node("Expand", ["start", "two"], ["probabilities"]),
            helper.make_node("ConstantOfShape", ["one"], ["labels"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0])),
        ],
        "g",
        [images],
        outputs,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {"classes": '["a", "b"]', **metadata})
    onnx.save(model, path)


def loop() -> Any:
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Add", ["state", "step"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), helper.make_tensor_value_info("next", TensorProto.FLOAT, [])],
        [helper.make_tensor("step", TensorProto.FLOAT, [], [0.0])],
    )
    return helper.make_node("Loop", ["forever", "yes", "half"], ["start"], body=body)


GOOD = [helper.make_node("Identity", ["half"], ["start"])]
GRAPHS = {
    "a loop without end": ([loop()], {}, "it takes more than"),
    "a constant of 64 GB": (
        [helper.make_node("ConstantOfShape", ["huge"], ["big"]), helper.make_node("ReduceMax", ["big"], ["start"], keepdims=0)],
        {},
        "memory",
    ),
    "probabilities that are no numbers": ([helper.make_node("Identity", ["nan"], ["start"])], {}, "gives no probabilities"),
    "deep metadata": (GOOD, {"abstention": "[" * DEEP}, "cannot read its metadata"),
    "deep classes": (GOOD, {"classes": "[" * DEEP}, "names 0 classes"),
    "a temperature of 5,000 digits": (GOOD, {"temperature": "9" * 5_000}, "cannot read its metadata"),
    "a crop of 10^-300": (
        GOOD,
        {"preprocessing": '{"image_size": 32, "crop": 1e-300, "mean": [0.5], "std": [1]}'},
        "cannot read its metadata",
    ),
    "a size of 10^9": (GOOD, {"preprocessing": '{"image_size": 1000000000, "mean": [0.5], "std": [1]}'}, "cannot read its metadata"),
}


@pytest.mark.parametrize(("nodes", "metadata", "problem"), GRAPHS.values(), ids=GRAPHS)
def test_a_hostile_graph(
    refused: Callable[..., str],
    cli: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    image_folder: Callable[..., Path],
    tmp_path: Path,
    nodes: list[Any],
    metadata: dict[str, str],
    problem: str,
) -> None:
    monkeypatch.setattr("cnnkit.exporters.session_process.MAX_SECONDS", 3.0)
    onnx_file(tmp_path / "x.onnx", nodes, **metadata)
    message = refused("predict", image_folder(images=4), "--model", tmp_path / "x.onnx")
    assert problem in " ".join(message.split())
    assert cli("info", tmp_path / "x.onnx", "--json").code in {0, 2}


def test_a_good_graph_of_the_same_kind(cli: Callable[..., Any], image_folder: Callable[..., Path], tmp_path: Path) -> None:
    onnx_file(tmp_path / "x.onnx", GOOD)
    assert cli("predict", next(image_folder(images=4).rglob("*.jpg")), "--model", tmp_path / "x.onnx").code == 0


def device(path: Path, kind: str) -> Path:
    """Return a path that is a pipe, an endless device, a socket, or a link to one."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        path.symlink_to({"zero": "/dev/zero", "link to itself": path}[kind])
    return path


@pytest.mark.parametrize("kind", ["pipe", "zero", "socket", "link to itself"])
def test_a_device_in_place_of_a_file(
    refused: Callable[..., str], cli: Callable[..., Any], trained: Any, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 characters
    data, run = trained.data, trained.run
    refused("train", "--data", data, "--config", device(Path("a.toml"), kind))
    refused("train", "--data", device(Path("b"), kind))
    refused("train", "--data", device(Path("b.csv"), kind))
    refused("train", "--data", device(Path("b.zip"), kind))
    refused("train", "--data", device(Path("b.tar.gz"), kind))
    refused("split", data, "--split-file", device(Path("c.csv"), kind))
    refused("train", "--data", data, "--weights", device(Path("d.pth"), kind))
    for name in ("e.onnx", "e.safetensors"):
        file = device(Path(name), kind)
        refused("predict", data, "--model", file)
        refused("info", file)
    done = cli("predict", device(Path("f.jpg"), kind), "--model", run, "--json")
    assert (done.code, bool(done.json()["predictions"][0]["error"] if isinstance(done.json(), dict) else done.json()[0]["error"])) in {
        (0, True),
        (1, True),
        (2, True),
    }
    for name, command in (
        ("config.json", "report"),
        ("history.csv", "report"),
        ("split.csv", "report"),
        ("eval/test/metrics.json", "runs"),
    ):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).unlink(missing_ok=True)
        device(Path("g"), kind).rename(run / name)
        done = cli(command, *([run] if command == "report" else []))
        assert done.code in {0, 2}
        assert "Traceback" not in done.err


def mutated(content: bytes, seed: int) -> bytes:
    """Return `content` with a few bytes changed, removed, repeated or replaced by hostile ones."""
    rng = random.Random(seed)
    parts = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(parts) + 1)
        stop = min(len(parts), start + rng.choice([1, 1, 2, 4, 16, 200]))
        hostile = [
            b"",
            bytes([rng.randrange(256)]),
            b"\0",
            b"9" * 50,
            b"-1",
            b"nan",
            b"1e999",
            b"[" * 50,
            b"{",
            b'"',
            b",",
            b"\n",
            b"\xff\xfe",
            b"null",
            b"true",
            bytes(parts[start:stop]) * 3,
        ]
        parts[start:stop] = rng.choice(hostile)
    return bytes(parts)


def read_toml(file: Path) -> None:
    from cnnkit.config.recipe import resolve

    resolve({"data": {"data": "digits"}}, file=file)


def read_table(file: Path) -> None:
    from cnnkit.data.sources.table import TableSource

    TableSource(file)


def read_split(file: Path) -> None:
    from cnnkit.data.source import Record
    from cnnkit.data.split.split_file import read_pins

    read_pins(file, [Record("a/1.jpg", "a"), Record("b/2.jpg", "b")], ["0", "1"])


def read_model(file: Path) -> None:
    from cnnkit.model.facts import read_facts
    from cnnkit.model.file import read_header

    for read in (read_header, read_facts):
        read(file)


def read_run(file: Path) -> None:
    from cnnkit.run_dir import RunDir

    RunDir(file.parent).read_record()


def read_picture(file: Path) -> None:
    from cnnkit.data.image import read_image

    read_image(file)


READERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "toml": (read_toml, "x.toml"), "csv": (read_table, "x.csv"), "split": (read_split, "x.csv"), "model": (read_model, "x.safetensors"),
    "run": (read_run, "config.json"), "jpeg": (read_picture, "x.jpg"), "png": (read_picture, "x.png"),
}  # fmt: skip


def seed_content(kind: str, tmp_path: Path, old_run: Path) -> bytes:
    """Return a small valid file of `kind`."""
    from PIL import Image

    if kind == "toml":
        model, rest = b'[model]\narch = "custom-cnn"\nset = ["width=8", "blocks=2"]\n', b"[optim]\nepochs = 3\nlr = 0.01\n"
        return b'recipe = "default"\n' + model + rest + b"[augment]\nzoom = [0.9, 1.1]\n"
    if kind == "csv":
        return b"path,label,split,group\n" + b"".join(b"a/%d.jpg,%s,train,g%d\n" % (n, b"ab"[n % 2 : n % 2 + 1], n) for n in range(8))
    if kind == "split":
        return b"path,label,split,sha256\na/1.jpg,a,train,0\nb/2.jpg,b,val,1\n"
    if kind == "model":
        import torch
        from safetensors.torch import save

        from cnnkit.model.file import ModelHeader
        from cnnkit.model.preprocessing import Preprocessing

        header = ModelHeader(
            arch="custom-cnn", options={"width": 8}, classes=("a", "b"), preprocessing=Preprocessing(image_size=32, mean=(0.5,), std=(1,))
        )
        return save({"weight": torch.zeros(2, 2)}, {"cnnkit": header.model_dump_json()})
    if kind == "run":
        return (old_run / "config.json").read_bytes()
    file = tmp_path / f"seed.{kind}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)).save(file)
    return file.read_bytes()


def check_mutations(kind: str, seeds: range, tmp_path: Path, old_run: Path) -> None:
    """Check that each mutation is read, or refused by a `CnnkitError`."""
    from cnnkit.errors import CnnkitError

    read, name = READERS[kind]
    content = seed_content(kind, tmp_path, old_run)
    file = tmp_path / kind / name
    file.parent.mkdir()
    file.write_bytes(content)
    if kind != "split":
        read(file)  # the seed itself is valid
    refusals = 0
    for seed in seeds:
        file.write_bytes(mutated(content, seed))
        signal.alarm(30)  # for each file, not for all
        try:
            read(file)
        except CnnkitError:
            refusals += 1
        except BaseException as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error
    assert refusals > len(seeds) // 10


@pytest.mark.parametrize("kind", READERS)
def test_mutations_of_valid_files_raise_nothing_else(kind: str, tmp_path: Path, old_run: Path) -> None:
    check_mutations(kind, range(40), tmp_path, old_run)


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_a_thousand_mutations_of_valid_files_raise_nothing_else(kind: str, tmp_path: Path, old_run: Path) -> None:
    check_mutations(kind, range(1000), tmp_path, old_run)
