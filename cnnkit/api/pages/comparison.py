"""The report on several runs: one page with the results of `compare` and the images that one run fixes or breaks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnkit.api.evaluation.compare import compare
from cnnkit.api.inference.run_images import find_run_canvases
from cnnkit.api.inference.target import find_target
from cnnkit.api.pages.run import PICTURE_SIZE
from cnnkit.data.progress import Progress
from cnnkit.errors import CnnkitError, ConfigError
from cnnkit.files import utf8, write_text
from cnnkit.run_dir import RunDir

if TYPE_CHECKING:
    from cnnkit.report.page.comparison import ComparedRun

PAGE = "comparison.html"


@dataclass(frozen=True)
class ComparisonReport:
    """A written page on the runs `names`: its path, its contents, its size in bytes and the time it took in seconds."""

    path: Path
    names: tuple[str, ...]
    split: str
    pictures: int
    bytes: int
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``report --compare --json``."""
        return {
            "report": str(self.path),
            "runs": list(self.names),
            "split": self.split,
            "pictures": self.pictures,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
        }


def report_comparison(
    runs: Sequence[str | Path],
    *,
    split: str | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> ComparisonReport:
    """Write one page on two or more runs with the same test images to `out`, by default comparison.html in the folder of the first.

    Runs without an evaluation are evaluated. Raises the same `CnnkitError` as `compare`, and `ConfigError` if one of `runs` is not a
    run.
    """
    from cnnkit.report.page.comparison import ComparisonPage, changed_paths, comparison_html

    started = time.perf_counter()
    folders = [_folder(run) for run in runs]
    comparison = compare(runs, split=split, device=device, progress=progress)
    result = comparison.to_dict()
    pictures, notes = _pictures(folders[0], changed_paths(result))
    names = tuple(each.name for each in comparison.contenders)
    html = comparison_html(ComparisonPage(result, _compared(names, folders), pictures, notes))
    path = Path(out) if out else folders[0].path / PAGE
    write_text(path, html)
    return ComparisonReport(
        path=path,
        names=names,
        split=comparison.split,
        pictures=html.count("<img "),
        bytes=len(utf8(html)),
        seconds=time.perf_counter() - started,
        notes=(*comparison.notes, *notes),
    )


def _folder(run: str | Path) -> RunDir:
    target = find_target(run)
    if target.run is None:
        raise ConfigError(f"{run} lies in no run directory, which a page needs; to compare without a page: cnnkit compare")
    return target.run


def _pictures(run: RunDir, paths: Sequence[str]) -> tuple[dict[str, NDArray[np.uint8]], tuple[str, ...]]:
    """Return the images `paths` as `run` sees them, and notes on missing images."""
    try:
        images = find_run_canvases(run, run.read_record(), paths)
        return images.pictures(paths, PICTURE_SIZE), images.missing(paths)
    except CnnkitError as error:
        return {}, (f"without pictures: {error}",)


def _compared(names: Sequence[str], folders: Sequence[RunDir]) -> list[ComparedRun]:
    from cnnkit.report.page.comparison import ComparedRun

    return [ComparedRun(name, *run.read_training()) for name, run in zip(names, folders, strict=True)]
