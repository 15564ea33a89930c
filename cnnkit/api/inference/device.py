"""The device of a network that predicts: the value of ``--device`` for a model file or an exported file."""

from __future__ import annotations

from cnnkit.api.inference.target import Target
from cnnkit.errors import ConfigError
from cnnkit.exporters.opening import is_exported, open_classifier
from cnnkit.model.classifier import Classifier


def open_on_device(target: Target, device: str) -> Classifier:
    """Open the file of `target` on `device`: auto, cpu, cuda or mps; auto takes a GPU if there is one.

    An exported file runs where its exporter can: an ONNX file on the CPU, or on a GPU by the package onnxruntime-gpu. Raises `ConfigError`
    for a device that is not here, or that the exported file cannot use. Raises the errors of `open_classifier`.
    """
    if not is_exported(target.path):
        from cnnkit.engine.runtime import choose_device  # loads torch, which an exported file does not need

        return open_classifier(target.path, device=choose_device(device))
    try:
        return open_classifier(target.path, device=device)
    except ConfigError as error:
        model = target.run.path if target.run else "RUN"
        raise ConfigError(f"{error}; to run the original model: --model {model}") from None


def device_notes(classifier: Classifier) -> tuple[str, ...]:
    """Return the sentence of an exported file on the device that it took, if it had a choice."""
    note = getattr(classifier, "note", "")
    return (note,) if isinstance(note, str) and note else ()
