"""The target of ``--model``: a run directory, a model file, an exported file, or the newest finished run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from cnnkit.errors import ModelFileError, closest, shell_path
from cnnkit.files import check_file
from cnnkit.run_dir import RunDir, find_run, newest, runs_folder, runs_in


@dataclass(frozen=True)
class Target:
    """The file to load and the run that it belongs to, if any; `chosen` is True if cnnkit chose the newest run."""

    path: Path
    run: RunDir | None
    chosen: bool = False

    @property
    def name(self) -> str:
        """The name of the model: that of its run, or of its file."""
        return self.run.name if self.run else self.path.stem


@runtime_checkable
class OpenModel(Protocol):
    """A model that is loaded already, such as `TrainedModel`."""

    @property
    def target(self) -> Target:
        """The file of the model and its run."""
        ...


ModelName = str | Path | RunDir | OpenModel | None


def find_target(model: ModelName) -> Target:
    """Resolve the value of ``--model``; raise `ModelFileError` with a command that works if there is no such model.

    An exported file that differs from the manifest of its run raises `DamagedFileError`.

    In Python, `model` may also be the run of a training, or a loaded model.
    """
    if isinstance(model, OpenModel):
        return model.target
    if isinstance(model, RunDir):
        model = model.path
    if model is not None and not isinstance(model, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ModelFileError(
            f"model: got a value of type {type(model).__name__}; expected a run, its folder or name, a model file, "
            f"or the result of cnnkit.load_model"
        )
    if model is None:
        run = newest()
        return Target(run.best, run, chosen=True)
    path = find_run(model)
    if path.is_dir():
        run = RunDir(path)
        if not run.best.is_file():
            run.read_record()  # raises a clearer error if the folder is no run directory
            raise ModelFileError(
                f"{path}: the run has no best.safetensors, because it finished no epoch; continue it with: cnnkit resume {shell_path(path)}"
            )
        return Target(run.best, run)
    if not path.is_file():
        names = [run.name for run in runs_in(runs_folder())]
        longer = [name for name in names if path.name and name.startswith(path.name)]
        near = f"; did you mean {longer[0]!r}?" if longer else closest(path.name, names)
        advice = "; leave out --model for the newest finished run" if near == "." else f"{near} cnnkit runs lists all runs"
        raise ModelFileError(f"--model {path}: no such file or run directory{advice}")
    if path.suffix != ".safetensors":  # the model file has digests of its own
        check_file(path)
    return Target(path, _run_of(path))


def _run_of(path: Path) -> RunDir | None:
    """Return the run directory of a file in it or in one of its folders, such as best.safetensors or export/model.onnx."""
    for folder in path.resolve().parents[:2]:
        if (folder / "config.json").is_file() and (folder / "split.csv").is_file():
            return RunDir(folder)
    return None
