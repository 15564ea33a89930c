"""The device of a network that predicts: the value of ``--device`` for a model file or an exported file."""

from __future__ import annotations

from cnnkit.api.inference.target import Target
from cnnkit.errors import ConfigError
from cnnkit.exporters.opening import is_exported, open_classifier
from cnnkit.model.classifier import Classifier


def open_on_device(target: Target, device: str) -> Classifier:
    """Open the file of `target` on `device`: auto, cpu, cuda or mps; auto takes a GPU if there is one.

    An exported file runs on the CPU. Raises `ConfigError` for a device that is not here, or another device than the CPU for an exported
    file. Raises the errors of `open_classifier`.
    """
    if not is_exported(target.path):
        from cnnkit.engine.runtime import choose_device  # loads torch, which an exported file does not need

        return open_classifier(target.path, device=choose_device(device))
    if device not in {"auto", "cpu"}:
        model = target.run.path if target.run else "RUN"
        raise ConfigError(
            f"--device {device}: {target.path} is an exported file, which runs on the CPU; "
            f"leave out --device, or name the original model: --model {model}"
        )
    return open_classifier(target.path)
