"""``info``: the contents of a model file, a run or an exported file, read from headers without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnkit.api.inference.runs import run_facts
from cnnkit.api.inference.target import Target
from cnnkit.errors import ModelFileError
from cnnkit.model.facts import read_facts


def inspect(target: Target) -> dict[str, Any]:
    """Return the document of `cnnkit info --json`; a model file and an exported file share the keys that both know.

    ``parameters`` counts the learned weights of a model file. ``constants`` counts all constants of an ONNX file, which does not
    mark the learned ones. ``run`` is present if the file lies in a run directory. Raises `ModelFileError` if the file cannot be
    read or has another suffix.
    """
    path = target.path
    if path.suffix == ".safetensors":
        facts = _model_file(path)
    elif path.suffix == ".onnx":
        facts = _onnx(path)
    else:
        raise ModelFileError(
            f"{path}: {path.suffix or 'no suffix'}: cnnkit info reads a run directory, a .safetensors file or an .onnx file"
        )
    return {"file": str(path), **facts, **({"run": run_facts(target.run).to_dict()} if target.run else {})}


def _model_file(path: Path) -> dict[str, Any]:
    facts = read_facts(path, check_tensors=True)
    sizes = {
        "format": "safetensors",
        "bytes": facts.bytes,
        "parameters": facts.parameters,
        "statistics": facts.statistics,
        "tensors": facts.tensors,
        "dtypes": list(facts.dtypes),
    }
    if facts.header is None:
        return {**sizes, "cnnkit": False}
    from cnnkit.model.header import ModelHeader, check_model_header  # loads numpy, which the list of runs does not need

    check_model_header({key: value for key, value in facts.header.items() if key in ModelHeader.model_fields}, path)
    return {**sizes, "cnnkit": True, **{key: value for key, value in facts.header.items() if key != "format"}}


def _onnx(path: Path) -> dict[str, Any]:
    from cnnkit.exporters.onnx_facts import read_onnx_facts

    facts = read_onnx_facts(path)
    interface = {
        "inputs": [vars(each) for each in facts.inputs],
        "outputs": [vars(each) for each in facts.outputs],
    }
    sizes = {"format": "onnx", "bytes": facts.bytes, "constants": facts.constants, "nodes": facts.nodes, "opset": facts.opset}
    return {**sizes, "producer": facts.producer, **interface, "cnnkit": "classes" in facts.metadata, **facts.metadata}
