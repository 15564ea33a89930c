"""The report: one page on a run, from the files of its folder, its images and its network."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnnkit.api.evaluation.stored_evaluation import StoredEvaluation, StoredPrediction, load_or_evaluate
from cnnkit.api.images.doctor import examine
from cnnkit.api.inference.run_images import ImageCanvases, find_run_canvases, picture
from cnnkit.api.inference.target import ModelName, Target, find_target
from cnnkit.data.progress import Progress
from cnnkit.data.source import SPLITS, TRAIN
from cnnkit.engine.runtime import choose_device
from cnnkit.errors import CnnkitError, DataError, ModelFileError, shell_path
from cnnkit.explain.gradcam import GradCam
from cnnkit.files import fingerprint, utf8, write_text
from cnnkit.model.file import Model, load_model
from cnnkit.run_dir import RunDir, RunRecord

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health
    from cnnkit.report.page.facts import ModelFacts
    from cnnkit.report.page.gallery import ImagePrediction
    from cnnkit.report.page.run import RunPage

PICTURE_SIZE = 96  # px; a picture takes 1.9 kB, so that 1,000 pictures take about half of the 5 MB of a page
HEAT_MAP_SIZE = 144  # px of a heat map and of the picture beside it


@dataclass(frozen=True)
class Report:
    """A written page: its run and path, its contents, its size in bytes and the time it took in seconds.

    `split` is None if the run has no evaluation. `fresh` is True if the run was evaluated for the page, which took
    `evaluation_seconds` of the `seconds`.
    """

    target: Target
    path: Path
    split: str | None
    fresh: bool
    pictures: int
    heat_maps: int
    findings: int | None
    bytes: int
    seconds: float
    evaluation_seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``report --json``."""
        return {
            "report": str(self.path),
            "run": str(self.target.run.path) if self.target.run else None,
            "split": self.split,
            "evaluated_now": self.fresh,
            "pictures": self.pictures,
            "heat_maps": self.heat_maps,
            "findings": self.findings,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "evaluation_seconds": round(self.evaluation_seconds, 3),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False)
class _Images:
    """The images of a page: small pictures and heat maps by path, uint8 RGB (H, W, 3), the findings of the doctor, and notes."""

    pictures: Mapping[str, NDArray[np.uint8]]
    heat: Mapping[str, NDArray[np.uint8]]
    health: Health | None
    notes: tuple[str, ...]


def report(
    run: ModelName = None,
    *,
    split: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Report:
    """Write the page on `run`, by default the newest finished run, to `out`, by default report.html in its folder.

    The metrics come from eval/<split>/. A run without an evaluation of its model is evaluated on `split`, by default on test, or on val
    without a test split. The page leaves out missing images and notes them. curves.png in the folder of the run is drawn again. Raises
    `CnnkitError` if the run cannot be read or the page cannot be written.
    """
    from cnnkit.report.page.gallery import choose
    from cnnkit.report.page.run import RunPage

    started = time.perf_counter()
    target = find_target(run)
    folder = _run_of(target)
    record, history = folder.read_training()
    rows = folder.read_split(record.classes)
    path = Path(out) if out else folder.path / "report.html"
    found, notes = _evaluation(folder, split, device, progress)
    evaluation_seconds = time.perf_counter() - started
    predictions = _predictions(found.rows, record.classes) if found else []
    choice = choose(predictions, _training(rows, record.classes))
    model, model_note = _model(folder, device)
    shown = _images(folder, record, model, choice.paths(), [*choice.worst, *choice.unsure])
    notes = (*notes, *model_note, *shown.notes)
    page = RunPage(
        name=folder.name,
        record=record,
        history=history,
        images=_counts(rows, record.classes),
        model=_model_facts(folder.best, model),
        metrics=found.metrics if found else None,
        predictions=predictions,
        choice=choice,
        pictures=shown.pictures,
        heat=shown.heat,
        health=shown.health,
        confusion_png=_bytes(found.folder / "confusion.png") if found else None,
        notes=notes,
    )
    html = _write(page, path, folder)
    return Report(
        target=target,
        path=path,
        split=found.metrics.split if found else None,
        fresh=found.fresh if found else False,
        pictures=html.count("<img "),
        heat_maps=len(shown.heat),
        findings=len(shown.health.findings) if shown.health else None,
        bytes=len(utf8(html)),
        seconds=time.perf_counter() - started,
        evaluation_seconds=evaluation_seconds if found and found.fresh else 0.0,
        notes=notes,
    )


def _write(page: RunPage, path: Path, folder: RunDir) -> str:
    """Write the page to `path` and curves.png into the folder of the run; return the HTML."""
    from cnnkit.report.page.run import run_html
    from cnnkit.report.pictures.plots import plot_curves

    html = run_html(page)
    write_text(path, html)
    if page.history:
        plot_curves(page.history, folder.path / "curves.png")
    return html


def _run_of(target: Target) -> RunDir:
    if target.run is None:
        raise ModelFileError(f"{target.path} lies in no run directory, which a report needs; name a run: cnnkit report runs/RUN")
    return target.run


def _evaluation(run: RunDir, split: str | None, device: str, progress: Progress | None) -> tuple[StoredEvaluation | None, tuple[str, ...]]:
    """Return the evaluation and notes; None if the images are missing, which is an error only if `split` is given."""
    try:
        found = load_or_evaluate(run, split, progress, device=device)
    except DataError as error:
        if split is not None:
            raise
        return None, (f"not evaluated, so there is no score: {error}; to evaluate: cnnkit eval --model {run.path} --data FOLDER",)
    return found, found.notes


def _predictions(rows: Sequence[StoredPrediction], classes: Sequence[str]) -> list[ImagePrediction]:
    from cnnkit.report.page.gallery import ImagePrediction

    index = {name: label for label, name in enumerate(classes)}
    return [ImagePrediction(row.path, index[row.true], index[row.predicted], row.probability, row.loss) for row in rows]


def _training(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[int, list[str]]:
    """Return the paths of the training images by the index of their class."""
    index = {name: label for label, name in enumerate(classes)}
    found: dict[int, list[str]] = {label: [] for label in range(len(classes))}
    for row in rows:
        if row["split"] == TRAIN:
            found[index[row["label"]]].append(row["path"])
    return found


def _counts(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of images by class and split."""
    counts = {name: dict.fromkeys(SPLITS, 0) for name in classes}
    for row in rows:
        counts[row["label"]][row["split"]] += 1
    return counts


def _model(run: RunDir, device: str) -> tuple[Model | None, tuple[str, ...]]:
    """Return the model, or a note with the error: a page without heat maps is better than no page."""
    chosen = choose_device(device)
    try:
        return load_model(run.best).to(chosen), ()
    except CnnkitError as error:
        return None, (f"without heat maps: {error}",)


def _model_facts(file: Path, model: Model | None) -> ModelFacts:
    """Return the facts about the model `file`; without the loaded `model` they lack its parameters, temperature and rules."""
    from cnnkit.report.page.facts import ModelFacts

    return ModelFacts(
        name=file.name,
        bytes=file.stat().st_size,
        sha256=fingerprint(file),
        parameters=sum(parameter.numel() for parameter in model.module.parameters()) if model else None,
        temperature=model.header.temperature if model else 1.0,
        rules=_rules(model),
    )


def _rules(model: Model | None) -> dict[str, dict[str, Any]]:
    """Return the rules of abstention and of label sets in the model's header."""
    header = model.header.model_dump(mode="json") if model else {}
    return {name: header[name] for name in ("abstention", "label_sets") if header.get(name)}


def _images(run: RunDir, record: RunRecord, model: Model | None, paths: Sequence[str], explained: Sequence[ImagePrediction]) -> _Images:
    """Return the pictures of the images `paths`, with heat maps of the `explained` predictions; notes name missing images."""
    labels = {prediction.path: prediction.predicted for prediction in explained}
    try:
        images = find_run_canvases(run, record, paths)
        health, notes = _health(record, images)
        pictures = images.pictures([path for path in (*paths, *_pictured(health)) if path not in labels], PICTURE_SIZE)
        large = images.pictures(list(labels), HEAT_MAP_SIZE)
    except CnnkitError as error:
        return _Images({}, {}, None, (f"without pictures: {error}",))
    heat, heat_notes = _heat(model, images, labels)
    return _Images({**pictures, **large}, heat, health, (*notes, *images.missing(paths), *heat_notes))


def _heat(model: Model | None, images: ImageCanvases, labels: Mapping[str, int]) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...]]:
    """Return heat maps of the evidence for the class index of each path in `labels`, or a note why there are none."""
    if model is None:
        return {}, ()
    from cnnkit.report.pictures.overlay import overlay
    from cnnkit.report.pictures.thumbnail import shrunk

    found: dict[str, NDArray[np.uint8]] = {}
    try:
        cam = GradCam(model)
        for paths, block in images.of(images.known(list(labels))):
            maps = cam.heat_maps(torch.from_numpy(block), np.array([labels[path] for path in paths], np.int64))
            for path, canvas, heat in zip(paths, block, maps, strict=True):
                found[path] = shrunk(overlay(picture(canvas), heat, HEAT_MAP_SIZE), HEAT_MAP_SIZE)
    except CnnkitError as error:
        return {}, (f"without heat maps: {error}",)
    return found, ()


def _health(record: RunRecord, images: ImageCanvases) -> tuple[Health | None, tuple[str, ...]]:
    """Return the findings of the doctor, or a note if all images would have to be decoded again."""
    location = record.data.location
    if not images.stored:
        see = f"cnnkit doctor {shell_path(location)}"
        return None, (f"without the doctor's findings: the cache does not hold the decoded images; see {see}",)
    return examine(location, classes=record.classes, group_by=record.config.data.group_by, exclude=record.config.data.exclude), ()


def _pictured(health: Health | None) -> list[str]:
    from cnnkit.report.page.html import pictured_files

    return pictured_files(health) if health else []


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
