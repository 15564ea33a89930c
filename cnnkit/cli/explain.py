"""``cnnkit explain``: heat maps of the evidence for a class, and feature maps of the layers."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cnnkit.cli import console
from cnnkit.cli.options import JsonFlag, TrainedModelOption
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.errors import counted
from cnnkit.files import check_writable, write_bytes, write_json

if TYPE_CHECKING:
    from cnnkit.api.inference.explain import Explainer
    from cnnkit.explain.explanation import Explanation

SHEET_FILE = "sheet.png"
MAX_SHEET_IMAGES = 120  # 40 rows on the sheet; more pictures would fill the memory
MAX_STEM_LENGTH = 60  # the number of letters of an image's name in the name of its picture


@with_options("device")
def command(
    given: dict[str, Any],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of images.")],
    model: TrainedModelOption = None,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Class to explain. Default: the predicted class of each image.")
    ] = None,
    method: Annotated[
        Literal["gradcam", "occlusion", "integrated-gradients"],
        typer.Option(metavar="gradcam|occlusion|integrated-gradients", help="Method that makes the heat map."),
    ] = "gradcam",
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Layer whose maps Grad-CAM weights. Default: the last layer with a spatial grid."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Check the heat map by occlusion and state the agreement (on by default).")
    ] = True,
    features: Annotated[
        bool, typer.Option("--features/--no-features", help="Draw the feature maps of every stage (on by default).")
    ] = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of the pictures. Default: explain/ of the run.")
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Draw heat maps of the evidence for a class in each image, and the feature maps of the layers.

    Writes a heat map and the feature maps of each image, one sheet of all images, and explain.json. The row of an unreadable file holds
    the error.

    \b
    cnnkit explain photo.jpg
    cnnkit explain ./images/cats --class dogs --method occlusion
    """
    from cnnkit.api.inference.explain import open_explainer
    from cnnkit.api.inference.predict import find_images
    from cnnkit.api.inference.target import find_target
    from cnnkit.data.sources.folder import check_outside

    target = find_target(model)
    console.say_model(target)
    files, notes = find_images(images)
    console.say_notes(console.err(), notes)
    device = device_of(given)
    explainer = open_explainer(target, class_name=class_name, layer=layer, method=method, check=check, features=features, device=device)
    folder = out or (target.run.path if target.run else Path()) / "explain"
    for image in images:
        check_outside(folder, str(image))
    check_writable(folder)
    rows: list[dict[str, object]] = []
    kept: list[Explanation] = []
    for one in explainer.explain(files):
        row = {**one.row(), **_write(one, explainer, folder)}
        rows.append(row)
        kept += [one] if one.pictures and len(kept) < MAX_SHEET_IMAGES else []
        if not json:
            console.say(console.out(), _line(row, folder))
    sheet = SHEET_FILE if len(kept) > 1 else None
    if sheet:
        _write_sheet(kept, len(rows), folder / sheet)
    document = _document(explainer, class_name, sheet, rows)
    write_json(folder / "explain.json", document)
    if json:
        console.print_json(document)
        return
    failed = sum(1 for row in rows if row["error"])
    count = counted(len(rows))
    known = [row for row in rows if row["true"] and not row["error"]]
    wrong = sum(row["true"] != row["predicted"] for row in known)
    summary = [f"{count} explained by {_method_text(explainer)}, in {folder}", f"{failed} with an error" if failed else ""]
    summary += [f"{wrong} wrong of {len(known)} with a known class"] if known else []
    console.say_end(console.err(), ", ".join(part for part in summary if part), f"cnnkit report{console.named(target)}")


def _line(row: dict[str, object], folder: Path) -> str:
    if row["error"]:
        return f"{row['path']}  error: {row['error']}"
    parts = [f"{row['predicted']} {100 * float(str(row['probability'])):.1f} %"]
    if row["true"] and row["true"] != row["predicted"]:
        parts.append(f"wrong: true class {row['true']}")
    if row["class"] != row["predicted"]:
        parts.append(f"explained: {row['class']} {100 * float(str(row['class_probability'])):.1f} %")
    if not row["evidence"]:
        parts.append("no evidence anywhere")
    if row["agreement"] is not None:
        parts.append(f"agreement {row['agreement']:.2f}")
    return f"{row['path']}  {', '.join(parts)}  {folder / str(row['picture'])}"


def _document(explainer: Explainer, class_name: str | None, sheet: str | None, rows: list[dict[str, object]]) -> dict[str, object]:
    """Return the contents of explain.json; `occlusion` has the sizes of the method or the check in pixels of the canvas."""
    occlusion = {"patch": explainer.patch, "step": explainer.step, "correlation": "Spearman"} if explainer.patch else None
    return {
        "model": str(explainer.model.path),
        "method": explainer.method,
        "layer": explainer.layer,
        "places": explainer.places,
        "class": class_name,
        "occlusion": occlusion,
        "sheet": sheet,
        "images": rows,
    }


def _method_text(explainer: Explainer) -> str:
    return f"layer {explainer.layer}, {explainer.places} x {explainer.places} positions" if explainer.layer else explainer.method


def _write(one: Explanation, explainer: Explainer, folder: Path) -> dict[str, object]:
    """Write the pictures of one image; return their names for its row."""
    if one.pictures is None:
        return {"picture": None, "features": None}
    from cnnkit.report.pictures.heat_map import explanation_png, features_png

    stem = _stem(one)
    wrong = f", wrong: true class {one.true}" if one.wrong else ""
    title = f"{one.name}: {one.predicted} {100 * one.probability:.1f} %{wrong}"
    share = "" if one.explained == one.predicted else f" ({100 * one.explained_probability:.1f} %)"
    head = f"evidence for {one.explained}{share}, {_method_text(explainer)}"
    write_bytes(folder / f"{stem}.png", explanation_png(one.pictures, title=title, head=head, wrong=one.wrong))
    features = f"{stem}-features.png" if one.pictures.stages else None
    if features:
        write_bytes(folder / features, features_png(one.pictures, title=f"{one.name}: channels that vary most, stage by stage"))
    return {"picture": f"{stem}.png", "features": features}


def _write_sheet(kept: list[Explanation], files: int, path: Path) -> None:
    from cnnkit.report.pictures.heat_map import explanations_sheet

    first = f", the first {len(kept)} of {files}" if len(kept) == MAX_SHEET_IMAGES < files else ""
    known, wrong = (sum(map(bool, values)) for values in ([one.true for one in kept], [one.wrong for one in kept]))
    marked = f"; red frame: {wrong} wrong of {known} with a known class" if known else ""
    write_bytes(path, explanations_sheet(kept, title=f"{counted(len(kept))} and the evidence for a class{first}{marked}"))


def _stem(one: Explanation) -> str:
    """Return a unique name for the pictures of a file: the file's own name, and eight digits of the hash of its path."""
    digest = hashlib.sha256(str(Path(one.path).absolute()).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    own = Path(one.name).with_suffix("").as_posix()
    return f"{re.sub(r'[^0-9A-Za-z_]+', '-', own).strip('-')[-MAX_STEM_LENGTH:] or 'image'}-{digest}"
