"""``cnnkit doctor``: the health of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnnkit.cli import console
from cnnkit.cli.options import DataArgument, JsonFlag
from cnnkit.cli.setting_flags import device_of, with_options
from cnnkit.config.recipe import resolve
from cnnkit.config.settings import by_section
from cnnkit.errors import CheckFailedError, ConfigError, shell_path
from cnnkit.files import write_bytes, write_text

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health


@with_options("classes", "exclude", "group_by", "download", "workers", "device")
def command(
    given: dict[str, Any],
    data: DataArgument,
    model: Annotated[
        Path | None,
        typer.Option("--model", "-m", metavar="MODEL", help="Run or model file with these classes, which finds labels that look wrong."),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures.")] = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Write a picture of copies, series, masks, blurred images and suspicious labels."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there is an error or a warning.")] = False,
    json: JsonFlag = False,
) -> None:
    """Examine images before a training; nothing is changed.

    Finds unreadable and odd files, masks beside the images, copies (also across splits and labels), series of images that belong
    together, imbalance, and shortcuts that give the class away. With --model it also finds labels that look wrong.

    \b
    cnnkit doctor ./images
    cnnkit doctor ./images --model runs/001-custom-cnn --html health.html
    """
    _check_suffix("--html", html, ".html")
    _check_suffix("--sheet", sheet, ".png")
    if model is None and "device" in given:
        raise ConfigError("--device is for the network of --model, which finds wrong labels: add --model RUN, or leave it out")
    chosen = resolve(by_section({"data": data, **given})).data
    data = chosen.data  # without passwords
    from cnnkit.api.images.doctor import examine
    from cnnkit.data.sources.folder import check_outside

    if sheet is not None:
        check_outside(sheet, data, "--sheet")
    screen = console.err()
    with console.progress(screen, "reading images") as update:
        health = examine(
            data,
            classes=chosen.classes,
            group_by=chosen.group_by,
            exclude=chosen.exclude,
            download=chosen.download,
            workers=chosen.workers,
            model=model,
            device=device_of(given),
            progress=update,
        )
    if json:
        console.print_json(health.to_dict())
    else:
        from cnnkit.report.terminal.health import health_summary

        console.out().print(health_summary(health))
    if html is not None:
        _write_page(health, data, html)
        console.say(screen, f"page {html}")
    if sheet is not None:
        _write_sheet(health, data, sheet)
        console.say(screen, f"sheet {sheet}")
    if not json:
        _say_end(health, data, is_shown=html is not None)
    if strict:
        _check(health)


def _say_end(health: Health, data: str, *, is_shown: bool) -> None:
    """Print the verdict on `health` again, below its details, and the next command: the pictures of the findings, or a training."""
    from cnnkit.report.terminal.health import verdict

    screen, quoted = console.err(), shell_path(data)
    has_files = any(finding.files for finding in health.findings)
    if has_files:
        console.say(screen, f"list all files of a finding: cnnkit doctor {quoted} --json")
    following = f"cnnkit doctor {quoted} --html health.html" if has_files and not is_shown else f"cnnkit train --data {quoted}"
    console.say_end(screen, verdict(health), following)


def _check_suffix(flag: str, path: Path | None, suffix: str) -> None:
    if path is not None and path.suffix.lower() != suffix:
        raise ConfigError(f"{flag} {path}: the ending must be {suffix}")


def _write_page(health: Health, data: str, path: Path) -> None:
    from cnnkit.api.inference.run_images import pictures
    from cnnkit.report.page.html import health_html, pictured_files
    from cnnkit.report.pictures.thumbnail import THUMBNAIL_SIZE, png

    images = pictures(data, pictured_files(health), size=THUMBNAIL_SIZE)
    thumbs = {file: png(image) for file, image in images.items()}
    write_text(path, health_html(health, thumbs, title=f"Health of {data}"))


def _write_sheet(health: Health, data: str, path: Path) -> None:
    from cnnkit.api.inference.run_images import pictures
    from cnnkit.report.pictures.contact_sheet import TILE_SIZE
    from cnnkit.report.pictures.health_sheet import health_sheet, sheet_files

    files = sheet_files(health)
    title = f"{data}: images to look at" if files else f"{data}: no images to look at"
    write_bytes(path, health_sheet(health, pictures(data, files, size=TILE_SIZE), title=title))


def _check(health: Health) -> None:
    """Raise `CheckFailedError` that names the errors and warnings, if there are any."""
    ids = {
        severity: ", ".join(dict.fromkeys(finding.id for finding in health.findings if finding.severity == severity))
        for severity in ("error", "warning")
    }
    problems = "; ".join(f"{severity}: {found}" for severity, found in ids.items() if found)
    if problems:
        raise CheckFailedError(f"--strict: {problems}")
