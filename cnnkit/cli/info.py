"""``cnnkit info``: the contents of a model file or a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cnnkit.cli import console
from cnnkit.cli.cache import size
from cnnkit.cli.options import JsonFlag
from cnnkit.errors import listed

MAX_ENTRIES = 8  # the longest list that the screen shows in full
# The keys with a line of their own; any other key of the header follows them, with its plain value.
KNOWN_KEYS = frozenset(
    {
        "file", "format", "bytes", "parameters", "statistics", "tensors", "dtypes", "constants", "nodes", "opset", "producer", "inputs",
        "outputs", "cnnkit", "arch", "options", "classes", "preprocessing", "temperature", "versions", "training", "run", "cnnkit_version",
        "package", "proof",
    }
)  # fmt: skip


def command(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL]", help="Run directory, model file or .onnx file. Default: the newest finished run."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Show the contents of a model file or run: architecture, classes, preprocessing, calibration, training.

    \b
    cnnkit info
    cnnkit info runs/001-custom-cnn/best.safetensors --json
    """
    from cnnkit.api.inference.info import inspect
    from cnnkit.api.inference.target import find_target

    target = find_target(model)
    console.say_model(target)
    facts = inspect(target)
    if json:
        console.print_json(facts)
        return
    from cnnkit.report.terminal.console import escaped

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for label, text in _lines(facts).items():
        grid.add_row(Text(label), Text(escaped(text)))
    console.out().print(grid)
    if facts["cnnkit"]:
        sentence = f"a model of {len(facts['classes'])} classes; its file is enough to predict"
        console.say_end(console.err(), sentence, f"cnnkit predict photo.jpg{console.named(target, '--model')}")


def _lines(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of the screen by their labels."""
    lines = {"file": f"{facts['file']}, {size(facts['bytes'])}", **_sizes(facts)}
    if not facts["cnnkit"]:
        lines["made by"] = "not cnnkit: the file has no header that describes the weights"
        return lines
    classes = facts["classes"]
    options = ", ".join(f"{name}={value}" for name, value in facts.get("options", {}).items())
    lines |= {
        "architecture": f"{facts.get('arch', 'unknown')}{f' with {options}' if options else ''}",
        "classes": f"{len(classes)}: {listed(classes)}",
        "preprocessing": _preprocessing(facts.get("preprocessing", {})),
        "temperature": f"{facts.get('temperature', 1.0):g}" + (" (not calibrated)" if facts.get("temperature", 1.0) == 1 else ""),
    }
    lines |= {key: _plain(value) for key, value in facts.items() if key not in KNOWN_KEYS and value not in (None, [], {})}
    training = facts.get("training", {})
    data = training.get("data", {})
    if data:
        images = ", ".join(f"{split} {count:,}" for split, count in data["images"].items())
        lines["data"] = f"{data['name']} ({images}), sha256 {data['sha256'][:12]}…"
    lines["training"] = _plain({key: value for key, value in training.items() if key not in {"data", "augmentation"}})
    lines["augmentation"] = _plain(training.get("augmentation"))
    lines["versions"] = _plain(facts.get("versions") or {"cnnkit": facts.get("cnnkit_version", "unknown")})
    if "run" in facts:
        lines["run"] = _run(facts["run"])
    return lines


def _sizes(facts: Mapping[str, Any]) -> dict[str, str]:
    if facts["format"] == "onnx":
        opset = ", ".join(f"{domain or 'ai.onnx'} {version}" for domain, version in facts["opset"].items())
        interface = {
            name: "; ".join(f"{tensor['name']} {tensor['dtype']} {_shape(tensor['shape'])}" for tensor in facts[name])
            for name in ("inputs", "outputs")
        }
        return {
            "format": f"ONNX, opset {opset}; {facts['nodes']:,} nodes; {facts['producer']}",
            "constants": f"{facts['constants']:,} numbers",
            **interface,
        }
    statistics = f", and {facts['statistics']:,} statistics of BatchNorm" if facts["statistics"] else ""
    return {"parameters": f"{facts['parameters']:,} ({', '.join(facts['dtypes'])}){statistics}; {facts['tensors']} tensors"}


def _shape(sizes: list[int | str]) -> str:
    return "(" + ", ".join(map(str, sizes)) + ")"


def _preprocessing(facts: Mapping[str, Any]) -> str:
    kept = {name: value for name, value in facts.items() if name != "image_size"}
    return f"{facts.get('image_size', '?')} px; {_plain(kept)}"


def _plain(value: object) -> str:
    """Return a value of the header on one line.

    An object becomes ``name value, name value``, a number has four digits, and a list of more than `MAX_ENTRIES` is only counted.
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items() if inner is not None)
    if isinstance(value, list) and (len(value) > MAX_ENTRIES or any(isinstance(inner, list | Mapping) for inner in value)):
        return f"({len(value)} entries, see --json)"
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _run(facts: Mapping[str, Any]) -> str:
    if facts["problem"]:
        return f"{facts['run']}: {facts['status']}: {facts['problem']}"
    accuracies = [f"{split} accuracy {_share(facts[f'{split}_accuracy'])}" for split in ("val", "test") if facts[f"{split}_accuracy"]]
    return f"{facts['run']}: {facts['status']}, epoch {facts['best_epoch']} of {facts['epochs']}; " + ", ".join(accuracies)


def _share(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:.1f} % [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"
