"""``cnnkit predict``: one row per image file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.named_files import named_files
from cnnkit.cli.options import JsonFlag, ModelOption
from cnnkit.cli.row_file import SUFFIXES, Row, require_packages, row_file
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import ConfigError, shell_path
from cnnkit.files import check_writable, write_json

if TYPE_CHECKING:
    from cnnkit.api.inference.class_folders import ClassFolders
    from cnnkit.api.inference.predict import Prediction, Predictions
    from cnnkit.metrics.drift import Drift, Outlier


@with_options("device")
def command(
    given: dict[str, Any],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders, patterns, or - for paths on stdin.")],
    model: ModelOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Number of classes per image, on the screen or with --json.", show_default="1"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write: .csv, .json or .parquet.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every class. Needs --out or --json.")
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Predict part I of N only, in blocks of 64 images. The CSV files of all parts, joined, are those of the whole.",
        ),
    ] = None,
    move_by_class: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Copy each image into DIR/CLASS by its prediction, or into DIR/abstained. The original stays, nothing is overwritten.",
        ),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Make symbolic links instead of copies. Needs --move-by-class.")] = False,
    json: JsonFlag = False,
) -> None:
    """Classify image files: one row each, in the order given.

    The row of an unreadable file holds the error. A model with a threshold (`cnnkit eval --abstain-risk`) abstains below it. All
    images are compared with the validation images of the model, and a drift or an image unlike them is reported.

    \b
    cnnkit predict photo.jpg
    cnnkit predict ./photos --out rows.csv --probabilities
    find . -name '*.jpg' | cnnkit predict - --out rows.csv
    cnnkit predict ./photos --shard 1/2 --out part-1.csv
    cnnkit predict ./photos --shard 2/2 --out part-2.csv
    awk 'FNR > 1 || NR == 1' part-1.csv part-2.csv > rows.csv
    """
    _check(out, top, probabilities=probabilities, json=json)
    if link and move_by_class is None:
        raise ConfigError("--link needs a folder for the links: add --move-by-class DIR")
    from cnnkit.api.inference.class_folders import check_root
    from cnnkit.api.inference.drift import MIN_IMAGES, DriftWatch
    from cnnkit.api.inference.predict import predict as run_prediction
    from cnnkit.api.inference.prepared import Shard
    from cnnkit.api.inference.target import find_target
    from cnnkit.report.terminal.calibration import calibration_line

    part = None if shard is None else Shard.parse(shard)
    target = find_target(model)
    console.say_model(target)
    watch = DriftWatch()
    files = named_files(images)
    if move_by_class is not None:
        check_root(move_by_class, files)
    predictions = run_prediction(files, target.path, device=device_of(given), watch=watch, shard=part)
    console.say(console.err(), calibration_line(predictions.rules.temperature, predictions.rules.calibration))
    console.say_notes(console.err(), predictions.notes)
    counts, rows = _Counts(MIN_IMAGES), list[Row]()
    folders = None if move_by_class is None else _class_folders(move_by_class, predictions.classes, link=link)
    with ExitStack() as stack:
        if folders:
            stack.enter_context(_told(folders))
        columns = predictions.columns(all_probabilities=probabilities)
        put = stack.enter_context(row_file(out, columns)) if out is not None else None
        for prediction in _shown(predictions, top or 1, quiet=json or out is not None):
            row = prediction.row(all_probabilities=probabilities)
            counts.add(row)
            if json:
                best = [{"class": name, "probability": probability} for name, probability in prediction.top(top or 1)]
                row = {**row, "top": best}
                rows.append(row)
            if put:
                put(row)
            if folders:
                folders.add(prediction)
    if json:
        console.print_json(rows)
    _report_drift(watch.result(), out)
    _report_outliers(watch.outliers(), counts.readable)
    if out is not None or not json:
        _say_end(counts, out, console.named(target, "--model"))


def _class_folders(root: Path, classes: tuple[str, ...], *, link: bool) -> ClassFolders:
    """Return the folders of `classes` below `root`, which is created; raises `ConfigError` if it cannot be written."""
    from cnnkit.api.inference.class_folders import FLAG, ClassFolders

    check_writable(root, FLAG)
    return ClassFolders(root, classes, link=link)


@contextmanager
def _told(folders: ClassFolders) -> Generator[None]:
    """Print on stderr the number of images in `folders` at the end of the body; after an error they stay."""
    kind = ("link", "links") if folders.link else ("copy", "copies")

    def put(number: int) -> str:
        return f"{number} {kind[number != 1]} in {folders.root}"

    try:
        yield
    except BaseException:
        done = folders.added + folders.present
        console.say(console.err(), f"{put(done)} {'stays' if done == 1 else 'stay'}; the same command adds the others")
        raise
    verb = "was" if folders.present == 1 else "were"
    again = f", {folders.present} more {verb} there already" if folders.present else ""
    console.say(console.err(), f"{put(folders.added)}{again}; the originals are unchanged")


def _check(out: Path | None, top: int | None, *, probabilities: bool, json: bool) -> None:
    """Raise `ConfigError` if the flags do not go together, and an error if `out` cannot be written."""
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: the ending must be one of {', '.join(SUFFIXES)}")
    if probabilities and out is None and not json:
        raise ConfigError("--probabilities needs an output with columns: add --out FILE.csv or --json")
    if top is not None and out is not None and not json:
        raise ConfigError("--top applies to the screen and --json, not to --out; for all classes in a file, type --probabilities")
    if out is not None:
        check_writable(out.parent)
        require_packages(out)


@dataclass
class _Counts:
    """The number of rows, of errors and of abstentions, and the paths of the first `kept` readable images."""

    kept: int
    rows: int = 0
    failed: int = 0
    abstained: int = 0
    readable: list[str] = field(default_factory=list[str])

    def add(self, row: Row) -> None:
        """Count a row."""
        self.rows += 1
        self.failed += bool(row["error"])
        self.abstained += bool(row["abstained"])
        if len(self.readable) < self.kept and not row["error"]:
            self.readable.append(str(row["path"]))


def _say_end(counts: _Counts, out: Path | None, model_flag: str) -> None:
    """Print the counts on stderr, and the command that explains the first readable image."""
    text = (f", {counts.failed} of them with an error" if counts.failed else "") + (
        f", {counts.abstained} abstained" if counts.abstained else ""
    )
    plural = "row" if counts.rows == 1 else "rows"
    following = f"cnnkit explain {shell_path(counts.readable[0])}{model_flag}" if counts.readable else "cnnkit predict photo.jpg"
    console.say_end(console.err(), f"{counts.rows} {plural}{f' in {out}' if out else ''}{text}", following)


def _shown(predictions: Predictions, top: int, *, quiet: bool) -> Iterator[Prediction]:
    """Yield the `predictions` and print a line for each; if `quiet`, show a progress bar instead."""
    if not quiet:
        shown = console.out()
        for prediction in predictions:
            console.say(shown, f"{prediction.path}  {_result_text(prediction, top)}")
            yield prediction
        return
    with console.progress(console.err(), "predicting") as update:
        for done, prediction in enumerate(predictions, start=1):
            update(done, predictions.total)
            yield prediction


def _result_text(prediction: Prediction, top: int) -> str:
    """Return the second half of a line: the `top` classes, "don't know", or the error."""
    if prediction.error:
        return f"error: {prediction.error}"
    best = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in prediction.top(top))
    possible = f"  one of: {', '.join(prediction.label_set)}" if prediction.label_set else ""
    return (f"don't know ({best})" if prediction.abstained else best) + possible


def _report_drift(drift: Drift | None, out: Path | None) -> None:
    """Write the comparison with the validation images to a file beside `out`; print a sentence on stderr if it has an alert."""
    if drift and out is not None:
        write_json(out.with_suffix(".drift.json"), drift.to_dict())
    if drift and drift.has_alert:
        from cnnkit.report.terminal.selective import drift_sentence

        console.say_labelled(console.err(), "drift", drift_sentence(drift), "yellow")


def _report_outliers(outliers: Sequence[Outlier], paths: Sequence[str]) -> None:
    """Print a sentence on stderr if some of the few images `paths` are unlike the validation images."""
    if outliers:
        from cnnkit.report.terminal.selective import outlier_sentence

        console.say_labelled(console.err(), "drift", outlier_sentence(outliers, paths), "yellow")
