"""``cnnkit predict``: one row per image file."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, ModelOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import ConfigError, MissingExtraError
from cnnkit.files import check_writable, utf8, whole_file, write_csv, write_json

if TYPE_CHECKING:
    from cnnkit.api.inference.predict import Prediction
    from cnnkit.metrics.drift import Drift

SUFFIXES = (".csv", ".json", ".parquet")


@with_options("device")
def command(
    given: dict[str, Any],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of images.")],
    model: ModelOption = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, metavar="K", help="Number of classes per image, on the screen or with --json.", show_default="1"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="File to write: .csv, .json or .parquet.")] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every class. Needs --out or --json.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Classify image files: one row each, in the order given.

    The row of an unreadable file holds the error. A model with a threshold (`cnnkit eval --abstain-risk`) abstains below it. At least 30
    images are compared with the validation images of the model, and a drift is reported.

    \b
    cnnkit predict photo.jpg
    cnnkit predict ./photos --out rows.csv --probabilities
    """
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: the ending must be one of {', '.join(SUFFIXES)}")
    if probabilities and out is None and not json:
        raise ConfigError("--probabilities needs an output with columns: add --out FILE.csv or --json")
    if top is not None and out is not None and not json:
        raise ConfigError("--top applies to the screen and --json, not to --out; for all classes in a file, type --probabilities")
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
    predictions = run_prediction(images, target.path, device=device_of(given), watch=watch)
    console.say(console.err(), calibration_line(predictions.rules.temperature, predictions.rules.calibration))
    for text in predictions.notes:
        console.say_labelled(console.err(), "note", text, "yellow")
    for prediction in _print_each(predictions, top or 1, quiet=json or out is not None):
        row = prediction.row(all_probabilities=probabilities)
        best = [{"class": name, "probability": probability} for name, probability in prediction.top(top or 1)]
        rows.append({**row, "top": best} if json else row)
    if json:
        console.print_json(rows)
    if out is not None:
        _write(out, rows)
    _report_drift(watch.result(), out)
    _say_end(rows, out, console.named(target, "--model"), json=json)


def _say_end(rows: Sequence[dict[str, object]], out: Path | None, model_flag: str, *, json: bool) -> None:
    """Print the number of rows, errors and abstentions on stderr, and the command that explains the first readable image."""
    if json and out is None:
        return
    failed, abstained = sum(1 for row in rows if row["error"]), sum(1 for row in rows if row["abstained"])
    counts = (f", {failed} of them with an error" if failed else "") + (f", {abstained} abstained" if abstained else "")
    plural = "row" if len(rows) == 1 else "rows"
    readable = next((str(row["path"]) for row in rows if not row["error"]), None)
    following = f"cnnkit explain {shlex.quote(readable)}{model_flag}" if readable else "cnnkit predict photo.jpg"
    console.say_end(console.err(), f"{len(rows)} {plural}{f' in {out}' if out else ''}{counts}", following)


def _print_each(predictions: Iterator[Prediction], top: int, *, quiet: bool) -> Iterator[Prediction]:
    """Yield the `predictions` and print a line for each, unless `quiet`."""
    shown = console.out()
    for prediction in predictions:
        if not quiet:
            console.say(shown, f"{prediction.path}  {_result_text(prediction, top)}")
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


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    if path.suffix.lower() == ".json":
        write_json(path, rows)
    elif path.suffix.lower() == ".csv":
        plain = [{key: _cell(value) for key, value in row.items() if key != "top"} for row in rows]
        write_csv(path, plain[0].keys(), plain)
    else:
        arrow, parquet = _pyarrow()
        plain = [{_text(key): _text(value) for key, value in row.items() if key != "top"} for row in rows]
        table = arrow.Table.from_pylist(plain)
        with whole_file(path) as part:
            parquet.write_table(table, part)


def _text(value: Any) -> Any:
    r"""Return a text of parquet, which is UTF-8: an invalid byte of a file name becomes an escape such as ``\udcff``."""
    return utf8(value).decode() if isinstance(value, str) else value


def _cell(value: object) -> object:
    """Return a value for a CSV cell: booleans in lower case and lists as JSON; other values stay, and None becomes an empty cell."""
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
