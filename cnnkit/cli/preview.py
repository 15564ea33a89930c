"""``cnnkit preview``: a picture of the images as the network will see them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import DataArgument, JsonFlag, RecipeOption
from cnnkit.cli.setting_flags import with_options
from cnnkit.config.parsing import command_line
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import ConfigError, counted
from cnnkit.files import write_bytes, write_text

if TYPE_CHECKING:
    from cnnkit.api.images.preview import Preview

SUFFIXES = (".png", ".html")


@with_options(
    "classes",
    "exclude",
    "download",
    "arch",
    "weights",
    "image_size",
    "channels",
    "resize_mode",
    "draft",
    "augment",
    "rotate",
    "flip",
    "zoom",
    "shift",
    "color",
    "randaugment",
    "erase",
    "augment_with",
    "seed",
)
def command(
    given: dict[str, Any],
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write: a picture (.png) or a page (.html).")] = Path(
        "preview.png"
    ),
    images_per_class: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Number of images of each class.", show_default="4, fewer with many classes")
    ] = None,
    variants: Annotated[int, typer.Option(min=0, metavar="N", help="Number of augmented versions of each image.")] = 6,
    recipe: RecipeOption = None,
    json: JsonFlag = False,
) -> None:
    """Draw a few images of each class as the network sees them, plain and augmented; nothing is trained.

    \b
    cnnkit preview ./images
    cnnkit preview ./images --augment strong --out preview.html
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: the ending must be one of {', '.join(SUFFIXES)}")
    settings = resolve(by_section({"data": data, **given}), recipe=recipe)
    from cnnkit.api.images.preview import preview as draw
    from cnnkit.data.sources.folder import check_outside

    if out.suffix.lower() == ".png":
        check_outside(out, data)
    screen = console.err()
    with console.progress(screen, "reading images") as update:
        shown = draw(settings, images_per_class=images_per_class, variants=variants, progress=update)
    console.say_notes(screen, shown.notes)
    if out.suffix.lower() == ".png":
        write_bytes(out, _sheet(shown))
    else:
        write_text(out, _page(shown))
    if json:
        console.print_json(_summary(shown, out))
        return
    count = len({row.label for row in shown.rows})
    console.say(console.out(), f"{counted(len(shown.rows))} of {counted(count, 'class', 'classes')} in {out}")
    console.say_end(console.out(), shown.describe(), f"cnnkit train{command_line({'data': data, **given}, recipe)}")


def _sheet(shown: Preview) -> bytes:
    from cnnkit.report.pictures.contact_sheet import Tile, contact_sheet

    heads, columns = _columns(shown)
    rows = [[Tile(image, row.path if column == 0 else "") for column, image in enumerate(images)] for row, images in columns]
    return contact_sheet(rows, labels=[row.label for row, _ in columns], heads=heads, title=f"{shown.name}: {shown.describe()}")


def _page(shown: Preview) -> str:
    from cnnkit.report.page.html import preview_html

    heads, columns = _columns(shown)
    rows = [(row.label, row.path, images) for row, images in columns]
    return preview_html(rows, heads, title=f"Preview of {shown.name}", description=shown.describe(), notes=shown.notes)


def _columns(shown: Preview) -> tuple[list[str], list[tuple[Any, list[Any]]]]:
    """Return the heads and the pictures of every row; the original has a column only if some canvas differs from it."""
    differ = any(row.original.shape != row.canvas.shape or (row.original != row.canvas).any() for row in shown.rows)
    first = ["original image"] if differ else []
    heads = [*first, "network input", *(f"augmented, epoch {epoch + 1}" for epoch in range(len(shown.rows[0].variants)))]
    return heads, [(row, [*([row.original] if differ else []), row.canvas, *row.variants]) for row in shown.rows]


def _summary(shown: Preview, out: Path) -> dict[str, object]:
    return {
        "file": str(out),
        "classes": list(shown.classes),
        "preprocessing": shown.preprocessing.model_dump(mode="json", exclude={"mean", "std"}),
        "augmentation": {
            name: getattr(shown.augmentation, name) for name in ("rotate", "flip", "zoom", "shift", "color", "randaugment", "erase")
        },
        "augment_with": list(shown.extra),
        "images": [{"path": row.path, "label": row.label} for row in shown.rows],
        "notes": list(shown.notes),
    }
