"""The target of ``--model``: a run directory, a model file, an exported file, or the newest finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnkit.errors import ModelFileError
from cnnkit.run_dir import RunDir, newest


@dataclass(frozen=True)
class Target:
    """The file to load and the run it belongs to, if any; `chosen` says whether cnnkit picked it."""

    path: Path
    run: RunDir | None
    chosen: bool = False


def find_target(model: str | Path | None) -> Target:
    """Resolve ``--model``; raises `ModelFileError` that says what to type if there is no such model."""
    if model is None:
        run = newest()
        return Target(run.best, run, chosen=True)
    path = Path(model)
    if path.is_dir():
        run = RunDir(path)
        if not run.best.is_file():
            run.read_record()  # no run directory at all: that error says so
            raise ModelFileError(f"{path}: the run has no best.safetensors yet: no epoch was finished; continue it: cnnkit resume {path}")
        return Target(run.best, run)
    if not path.is_file():
        raise ModelFileError(f"--model {path}: no such file or run directory; left out, the newest finished run is taken")
    return Target(path, _run_of(path))


def _run_of(path: Path) -> RunDir | None:
    """The run directory that `path` lies in (best.safetensors, export/model.onnx), if it does."""
    for folder in path.resolve().parents[:2]:
        if (folder / "config.json").is_file() and (folder / "split.csv").is_file():
            return RunDir(folder)
    return None
