"""The report: one page on a run, made of the files of its folder, of its images and of its network."""

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
from cnnkit.api.inference.run_images import Shown, picture, shown_to
from cnnkit.api.inference.target import Target, find_target
from cnnkit.data.source import SPLITS, TRAIN
from cnnkit.data.store.scan import Progress
from cnnkit.errors import CnnkitError, DataError, ModelFileError
from cnnkit.explain.gradcam import GradCam
from cnnkit.files import fingerprint, write_text
from cnnkit.model.file import Model, load_model
from cnnkit.run_dir import RunDir, RunRecord

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health
    from cnnkit.report.page.gallery import ImagePrediction

SIDE = 96  # px of a small picture: 1.9 kB each, so that 1,000 of them take half of 5 MB
LARGE = 144  # px of those with a heat map


@dataclass(frozen=True)
class Report:
    """A page that was written: where, of which run and split (None: it has no evaluation), what it holds and what it cost.

    `fresh` says that the run was evaluated for it, which took `evaluation_seconds` of its `seconds`.
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
        """Return what ``report --json`` prints."""
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
    """What the images give to a page: small pictures and heat maps by path, uint8 RGB (H, W, 3), the doctor's findings, and notes."""

    pictures: Mapping[str, NDArray[np.uint8]]
    heat: Mapping[str, NDArray[np.uint8]]
    health: Health | None
    notes: tuple[str, ...]


def report(
    run: str | Path | None = None, *, split: str | None = None, out: str | Path | None = None, progress: Progress | None = None
) -> Report:
    """Write the page on `run` (the newest finished one) to `out`, by default report.html in its folder, with curves.png beside it.

    The figures are those of eval/<split>/; a run without an evaluation of its model is evaluated, on test or else val. Images
    that are gone are missing on the page, and its notes say so. Raises `CnnkitError` if there is no such run or no room to write.
    """
    from cnnkit.report.page.facts import ModelFacts
    from cnnkit.report.page.gallery import choose
    from cnnkit.report.page.run import RunPage, run_html
    from cnnkit.report.pictures.plots import plot_curves

    started = time.perf_counter()
    target = find_target(run)
    folder = _run_of(target)
    record, history = folder.read_training()
    rows = folder.read_split(record.classes)
    path = Path(out) if out else folder.path / "report.html"
    found, notes = _evaluation(folder, split, progress)
    evaluation_seconds = time.perf_counter() - started
    predictions = _predictions(found.rows, record.classes) if found else []
    choice = choose(predictions, _training(rows, record.classes))
    model, model_note = _model(folder)
    shown = _images(folder, record, model, choice.paths(), [*choice.worst, *choice.unsure])
    notes = (*notes, *model_note, *shown.notes)
    page = RunPage(
        name=folder.path.resolve().name,
        record=record,
        history=history,
        images=_counts(rows, record.classes),
        model=ModelFacts(
            name=folder.best.name,
            bytes=folder.best.stat().st_size,
            sha256=fingerprint(folder.best),
            parameters=sum(parameter.numel() for parameter in model.module.parameters()) if model else None,
            temperature=model.header.temperature if model else 1.0,
            rules=_rules(model),
        ),
        metrics=found.metrics if found else None,
        predictions=predictions,
        choice=choice,
        pictures=shown.pictures,
        heat=shown.heat,
        health=shown.health,
        confusion_png=_bytes(found.folder / "confusion.png") if found else None,
        notes=notes,
    )
    html = run_html(page)
    write_text(path, html)
    if history:
        plot_curves(history, folder.path / "curves.png")
    return Report(
        target=target,
        path=path,
        split=found.metrics.split if found else None,
        fresh=found.fresh if found else False,
        pictures=html.count("<img "),
        heat_maps=len(shown.heat),
        findings=len(shown.health.findings) if shown.health else None,
        bytes=len(html.encode("utf-8", "surrogateescape")),
        seconds=time.perf_counter() - started,
        evaluation_seconds=evaluation_seconds if found and found.fresh else 0.0,
        notes=notes,
    )


def _run_of(target: Target) -> RunDir:
    if target.run is None:
        raise ModelFileError(f"{target.path} lies in no run directory, whose files a report is made of; name one: cnnkit report runs/RUN")
    return target.run


def _evaluation(run: RunDir, split: str | None, progress: Progress | None) -> tuple[StoredEvaluation | None, tuple[str, ...]]:
    """Return the evaluation, and notes; none if the images are gone, unless that split was asked for."""
    try:
        found = load_or_evaluate(run, split, progress)
    except DataError as error:
        if split is not None:
            raise
        return None, (f"not evaluated, so there is no score: {error}",)
    return found, found.notes


def _predictions(rows: Sequence[StoredPrediction], classes: Sequence[str]) -> list[ImagePrediction]:
    from cnnkit.report.page.gallery import ImagePrediction

    index = {name: place for place, name in enumerate(classes)}
    return [ImagePrediction(row.path, index[row.true], index[row.predicted], row.probability, row.loss) for row in rows]


def _training(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[int, list[str]]:
    """Paths of the training images of every class, by its index."""
    index = {name: place for place, name in enumerate(classes)}
    found: dict[int, list[str]] = {place: [] for place in range(len(classes))}
    for row in rows:
        if row["split"] == TRAIN:
            found[index[row["label"]]].append(row["path"])
    return found


def _counts(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images by class and split."""
    counts = {name: dict.fromkeys(SPLITS, 0) for name in classes}
    for row in rows:
        counts[row["label"]][row["split"]] += 1
    return counts


def _model(run: RunDir) -> tuple[Model | None, tuple[str, ...]]:
    """Return the network, or a note why there is none: a page without heat maps is better than no page."""
    try:
        return load_model(run.best), ()
    except CnnkitError as error:
        return None, (f"without heat maps: {error}",)


def _rules(model: Model | None) -> dict[str, dict[str, Any]]:
    """The rules in the model's header that say when not to prediction, and which labels are possible."""
    header = model.header.model_dump(mode="json") if model else {}
    return {name: header[name] for name in ("abstention", "label_sets") if header.get(name)}


def _images(run: RunDir, record: RunRecord, model: Model | None, paths: Sequence[str], looked: Sequence[ImagePrediction]) -> _Images:
    """Fetch what the page shows of the images at `paths`, with heat maps of those `looked` at; what is gone is said in the notes."""
    closely = {prediction.path: prediction.predicted for prediction in looked}
    try:
        there = shown_to(run, record, paths)
        health, notes = _health(record, there)
        pictures = there.pictures([path for path in (*paths, *_pictured(health)) if path not in closely], SIDE)
        large = there.pictures(list(closely), LARGE)
    except CnnkitError as error:
        return _Images({}, {}, None, (f"without pictures: {error}",))
    heat, heat_notes = _heat(model, there, closely)
    return _Images({**pictures, **large}, heat, health, (*notes, *there.missing(paths), *heat_notes))


def _heat(model: Model | None, there: Shown, classes: Mapping[str, int]) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...]]:
    """Return pictures of where the network looked for the class that `classes` gives for each path, or a note why there are none."""
    if model is None:
        return {}, ()
    from cnnkit.report.pictures.overlay import overlay
    from cnnkit.report.pictures.thumbnail import shrunk

    found: dict[str, NDArray[np.uint8]] = {}
    try:
        cam = GradCam(model)
        for part, block in there.of(there.known(list(classes))):
            maps = cam.heat_maps(torch.from_numpy(block), np.array([classes[path] for path in part], np.int64))
            for path, canvas, heat in zip(part, block, maps, strict=True):
                found[path] = shrunk(overlay(picture(canvas), heat, LARGE), LARGE)
    except CnnkitError as error:
        return {}, (f"without heat maps: {error}",)
    return found, ()


def _health(record: RunRecord, there: Shown) -> tuple[Health | None, tuple[str, ...]]:
    """Ask the doctor, if that does not mean to decode all images anew."""
    location = record.data.location
    if not there.stored:
        return None, (f"without the doctor's findings: the decoded images are no longer in the cache; see cnnkit doctor {location}",)
    return examine(location, classes=record.classes, group_by=record.config.data.group_by), ()


def _pictured(health: Health | None) -> list[str]:
    from cnnkit.report.page.html import pictured_files

    return pictured_files(health) if health else []


def _bytes(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
