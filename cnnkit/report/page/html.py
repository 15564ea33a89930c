"""Self-contained HTML pages: one file without external addresses, in which all text from the data is escaped."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from cnnkit.report.pictures.thumbnail import data_uri, png, shrunk
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.health import MAX_BARS, by_severity, class_sizes, highest_severity, verdict
from cnnkit.report.terminal.numbers import percent

if TYPE_CHECKING:
    from cnnkit.doctor.finding import Health

MAX_PICTURED_CASES = 9  # cases of a finding with pictures: three rows of pairs
MAX_PICTURED_FILES = 4  # files of one case with pictures
MAX_LISTED_CASES = 1_000  # cases of a finding on the page, whose text then stays below a megabyte


def health_html(health: Health, thumbs: Mapping[str, bytes], *, title: str = "Health of the data") -> str:
    """Return a page on `health`: verdict, classes, and every finding with the pictures of its first cases.

    `thumbs` are PNG files by the path of their image; an image without a thumbnail appears by its name.
    """
    shown = {path: data_uri(png) for path, png in thumbs.items()}
    return render(
        "health.html",
        tests=case_tests(shown),
        title=title,
        verdict=verdict(health),
        worst=highest_severity(health),
        classes=health.classes,
        most=max(health.classes.values(), default=1) or 1,
        sizes=class_sizes(health.classes) if len(health.classes) > MAX_BARS else "",
        findings=by_severity(health.findings),
        notes=health.notes,
        thumbs=shown,
        shown=MAX_PICTURED_CASES,
        most_of_a_case=MAX_PICTURED_FILES,
        listed=MAX_LISTED_CASES,
    )


def pictured_files(health: Health) -> list[str]:
    """Return the files of which `health_html` shows thumbnails, each once, in the order of the page."""
    cases = (case[:MAX_PICTURED_FILES] for finding in by_severity(health.findings) for case in finding.files[:MAX_PICTURED_CASES])
    return list(dict.fromkeys(file for case in cases for file in case))


def preview_html(
    rows: Sequence[tuple[str, str, Sequence[NDArray[np.uint8]]]],
    heads: Sequence[str],
    *,
    title: str,
    description: str = "",
    notes: Sequence[str] = (),
) -> str:
    """Return a page with one row per image: (class name, path, pictures uint8 (H, W, 3)); `heads` are the heads of the pictures."""
    return render(
        "preview.html",
        title=title,
        description=description,
        notes=notes,
        heads=heads,
        rows=[{"label": label, "path": path, "images": [data_uri(png(shrunk(image))) for image in images]} for label, path, images in rows],
    )


def case_tests(thumbs: Mapping[str, str]) -> dict[str, Any]:
    """Return the tests of findings.html for a case: "pictured" if any of its files has a picture, "whole" if all have one."""
    return {
        "pictured": lambda case: any(file in thumbs for file in case),
        "whole": lambda case: len(case) <= MAX_PICTURED_FILES and all(file in thumbs for file in case),
    }


def render(template: str, tests: Mapping[str, Any] | None = None, *, served: bool = False, **values: Any) -> str:
    """Return the page of `template` with every value escaped and a content security policy; `tests` are its own tests by name.

    A `served` page may ask its own server.
    """
    environment = Environment(
        loader=PackageLoader("cnnkit.report.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: Any = {"name": escaped, "flags": _around_flags, "percent": percent}
    environment.filters.update(filters)
    environment.tests.update(tests or {})
    return add_content_policy(environment.get_template(template).render(values), served=served)


def add_content_policy(source: str, *, served: bool = False) -> str:
    """Return a page with a content security policy, which allows only its own styles and scripts, by their hashes, and its pictures.

    Even unescaped markup from the data could then neither run nor load anything. The policy refuses style attributes too. A `served`
    page may also show pictures that the reader chose, and ask its own server.
    """
    styles = " ".join(_hash(text) for text in re.findall(r"<style>(.*?)</style>", source, re.DOTALL))
    scripts = " ".join(_hash(text) for text in re.findall(r"<script>(.*?)</script>", source, re.DOTALL)) or "'none'"
    pictures, asked = ("data: blob:", " connect-src 'self';") if served else ("data:", "")
    rules = f"default-src 'none'; img-src {pictures};{asked} style-src {styles}; script-src {scripts}; base-uri 'none'; form-action 'none'"
    return source.replace(
        '<meta charset="utf-8">', f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{rules}">', 1
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _around_flags(text: str) -> list[str]:
    """Split a message at its flags; every second part is a flag."""
    return re.split(r"(--[a-z][a-z-]*)", text)
