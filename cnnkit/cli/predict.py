"""``cnnkit predict``: one row per image file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, ModelOption
from cnnkit.errors import ConfigError, MissingExtraError
from cnnkit.files import check_writable, whole_file, write_csv, write_json

if TYPE_CHECKING:
    from cnnkit.api.inference.predict import Prediction
    from cnnkit.metrics.drift import Drift

FORMATS = (".csv", ".json", ".parquet")


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of images.")],
    model: ModelOption = None,
    top: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="Classes shown per image, on the screen or with --json.", show_default="1")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write: .csv, .json or .parquet.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Write one more column per class, with --out or --json.")] = False,
    json: JsonFlag = False,
) -> None:
    """Classify image files: one row each, in the order given.

    An unreadable file is a row with its error. A model with a threshold (`cnnkit eval --abstain-risk`) says where it does not know. 30
    images or more are compared with the images the model was validated on, and a drift is reported.
    """
    if out is not None and out.suffix.lower() not in FORMATS:
        raise ConfigError(f"--out {out}: the ending must be one of {', '.join(FORMATS)}")
    if probabilities and out is None and not json:
        raise ConfigError("--probabilities needs a place for its columns: add --out FILE.csv or --json")
    if top is not None and out is not None and not json:
        raise ConfigError("--top is for the screen and --json; a file has all classes with --probabilities")
    if out is not None:
        check_writable(out.parent)
        if out.suffix.lower() == ".parquet":
            _pyarrow()
    from cnnkit.api.inference.drift import DriftWatch
    from cnnkit.api.inference.predict import predict as run_prediction
    from cnnkit.api.inference.target import find_target
    from cnnkit.report.terminal.calibration import calibration_line

    target = find_target(model)
    console.say_model(target)
    rows: list[dict[str, object]] = []
    watch = DriftWatch()
    predictions = run_prediction(images, target.path, watch=watch)
    console.say(console.err(), calibration_line(predictions.rules.temperature, predictions.rules.calibration))
    for prediction in _shown(predictions, top or 1, quiet=json or out is not None):
        row = prediction.row(all_probabilities=probabilities)
        rows.append({**row, "top": [{"class": name, "probability": share} for name, share in prediction.top(top or 1)]} if json else row)
    if json:
        console.print_json(rows)
    if out is not None:
        _write(out, rows)
        failed, refused = sum(1 for row in rows if row["error"]), sum(1 for row in rows if row["abstained"])
        more = (f", {failed} of them with an error" if failed else "") + (f", {refused} not answered" if refused else "")
        console.say(console.err(), f"{len(rows)} rows in {out}{more}")
    _tell_drift(watch.result(), out)


def _shown(predictions: Iterator[Prediction], top: int, *, quiet: bool) -> Iterator[Prediction]:
    """Pass `predictions` on, printing a line for each as it comes."""
    shown = console.out()
    for prediction in predictions:
        if not quiet:
            console.say(shown, f"{prediction.path}  {_answer(prediction, top)}")
        yield prediction


def _answer(prediction: Prediction, top: int) -> str:
    """The line's second half: what the model says, that it does not know, or why it was not asked."""
    if prediction.error:
        return f"error: {prediction.error}"
    best = ", ".join(f"{name} {100 * share:.1f} %" for name, share in prediction.top(top))
    possible = f"  one of: {', '.join(prediction.label_set)}" if prediction.label_set else ""
    return (f"don't know ({best})" if prediction.abstained else best) + possible


def _tell_drift(drift: Drift | None, out: Path | None) -> None:
    """Put the comparison with the images that the model knows beside the rows, and say on stderr if these look unlike them."""
    if drift and out is not None:
        write_json(out.with_suffix(".drift.json"), drift.to_dict())
    if drift and drift.has_alert:
        from cnnkit.report.terminal.selective import drift_sentence

        console.labelled(console.err(), "drift", drift_sentence(drift), "yellow")


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:

    if path.suffix.lower() == ".json":
        write_json(path, rows)
    elif path.suffix.lower() == ".csv":
        plain = [{key: _cell(value) for key, value in row.items() if key != "top"} for row in rows]
        write_csv(path, plain[0].keys(), plain)
    else:
        arrow, parquet = _pyarrow()
        table = arrow.Table.from_pylist([{key: value for key, value in row.items() if key != "top"} for row in rows])
        with whole_file(path) as part:
            parquet.write_table(table, part)


def _cell(value: object) -> object:
    """Booleans in lower case and lists of names, as JSON has them; None as an empty cell."""
    if isinstance(value, list):
        return dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtraError("--out x.parquet needs the package pyarrow: pip install 'cnnkit[parquet]'") from None
    return pa, parquet
