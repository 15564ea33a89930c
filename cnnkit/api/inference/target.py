"""The target of ``--model``: a run directory, a model file, an exported file, or the newest finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cnnkit.errors import ModelFileError, closest
from cnnkit.run_dir import RunDir, find_run, newest, runs_folder, runs_in


@dataclass(frozen=True)
class Target:
    """The file to load and the run that it belongs to, if any; `chosen` is True if cnnkit chose the newest run."""

    path: Path
    run: RunDir | None
    chosen: bool = False


def find_target(model: str | Path | None) -> Target:
    """Resolve the value of ``--model``; raise `ModelFileError` with a command that works if there is no such model."""
    if model is None:
        run = newest()
        return Target(run.best, run, chosen=True)
    path = find_run(model)
    if path.is_dir():
        run = RunDir(path)
        if not run.best.is_file():
            run.read_record()  # raises a clearer error if the folder is no run directory
            raise ModelFileError(
                f"{path}: the run has no best.safetensors, because it finished no epoch; continue it with: cnnkit resume {path}"
            )
        return Target(run.best, run)
    if not path.is_file():
        names = [run.name for run in runs_in(runs_folder())]
        longer = [name for name in names if path.name and name.startswith(path.name)]
        near = f"; did you mean {longer[0]!r}?" if longer else closest(path.name, names)
        advice = "; leave out --model for the newest finished run" if near == "." else f"{near} cnnkit runs lists all runs"
        raise ModelFileError(f"--model {path}: no such file or run directory{advice}")
    return Target(path, _run_of(path))


def _run_of(path: Path) -> RunDir | None:
    """Return the run directory of a file in it or in one of its folders, such as best.safetensors or export/model.onnx."""
    for folder in path.resolve().parents[:2]:
        if (folder / "config.json").is_file() and (folder / "split.csv").is_file():
            return RunDir(folder)
    return None
