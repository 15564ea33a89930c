from __future__ import annotations

import io
import re

import pytest
from rich.console import Console, RenderableType

from cnnkit.doctor.finding import Finding, Health, Severity
from cnnkit.report.terminal.health import case_text, class_sizes, health_summary, highest_severity, verdict

LEAK = Finding(
    "leak", Severity.ERROR, (("train/a.jpg", "test/b.jpg"), ("train/c.jpg", "test/d.jpg"), ("train/e.jpg", "test/f.jpg")), "3 copies."
)
ODD = Finding("odd-mode", Severity.NOTE, (("a.png",), ("b.png",), ("c.png",)), "3 images have an alpha channel, which is dropped.")
IMBALANCE = Finding("imbalance", Severity.WARNING, (), "bees has 3 times the images of ants: --balance weights")
SICK = Health(images=1_204, classes={"ants": 301, "bees": 903}, findings=(ODD, IMBALANCE, LEAK), notes=("2 files were left out",))
WELL = Health(images=1, classes={"ants": 1}, findings=(), notes=())


def plain(renderable: RenderableType, width: int = 80, encoding: str = "utf-8", **settings: object) -> str:
    """Return the text that a pipe of this encoding gets, without spaces at line ends."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, width=width, color_system=None, **settings)  # type: ignore[arg-type]
    console.print(renderable)
    file.seek(0)
    return "\n".join(line.rstrip() for line in file.read().splitlines())


def test_the_summary_has_the_most_severe_finding_first() -> None:
    assert (
        plain(health_summary(SICK))
        == """\
1,204 images, 2 classes: 1 error, 1 warning, 1 note

ants 301 ██████████
bees 903 ██████████████████████████████

error    leak       3  3 copies.
                       train/a.jpg ↔ test/b.jpg
                       train/c.jpg ↔ test/d.jpg
                       and 1 more
warning  imbalance     bees has 3 times the images of ants: --balance weights
note     odd-mode   3  3 images have an alpha channel, which is dropped.
                       a.png, b.png and 1 more

2 files were left out"""
    )


def test_a_pipe_without_unicode_gets_ascii() -> None:
    text = plain(health_summary(SICK), encoding="ascii")
    assert "bees 903 " + 30 * "#" in text
    assert "train/a.jpg <-> test/b.jpg" in text


def test_healthy_data_has_no_findings() -> None:
    assert plain(health_summary(WELL)).startswith("1 image, 1 class: no findings\n")
    assert highest_severity(WELL) == "none"


@pytest.mark.parametrize(("findings", "expected"), [((ODD,), "note"), ((ODD, IMBALANCE), "warning"), ((ODD, IMBALANCE, LEAK), "error")])
def test_the_highest_severity_of_the_findings(findings: tuple[Finding, ...], expected: str) -> None:
    assert highest_severity(Health(images=1, classes={"ants": 1}, findings=findings, notes=())) == expected


def test_several_findings_are_counted() -> None:
    assert verdict(Health(images=2, classes={"a": 2}, findings=(ODD, ODD), notes=())) == "2 images, 1 class: 2 notes"


def test_many_classes_become_a_sentence() -> None:
    many = {f"class {index}": index for index in range(1, 22)}
    text = " ".join(plain(health_summary(Health(images=231, classes=many, findings=(), notes=()))).split())
    assert "median 11; fewest: class 1 1, class 2 2, class 3 3; most: class 21 21, class 20 20, class 19 19" in text
    assert "█" not in text


def test_the_sizes_of_two_classes_name_both_at_each_end() -> None:
    assert class_sizes({"a": 5, "b": 1}) == "images per class: median 3; fewest: b 1, a 5; most: a 5, b 1"


def test_an_empty_class_has_a_bar_and_no_division_by_zero() -> None:
    assert "ants 0" in plain(health_summary(Health(images=0, classes={"ants": 0}, findings=(), notes=())))


def test_names_are_shown_without_control_characters_and_markup() -> None:
    finding = Finding("unreadable", Severity.ERROR, (("[red]a\x1b[2J\udcff.jpg",),), "cannot be read: [bold]broken[/bold]")
    text = plain(health_summary(Health(images=1, classes={"[b]x\n": 1}, findings=(finding,), notes=("[i]n[/i]",))))
    for expected in (r"[red]a\x1b[2J\udcff.jpg", r"[b]x\n 1", "[bold]broken[/bold]", "[i]n[/i]"):
        assert expected in text


def test_long_names_fit_80_columns_and_files_are_complete() -> None:
    path = "/".join(["a rather long folder name"] * 6) + "/file.jpg"
    finding = Finding("class-name-clash", Severity.WARNING, ((path, path),), "message " * 40)
    text = plain(health_summary(Health(images=10**6, classes={"long name " * 9: 10**6, "猫" * 30: 1}, findings=(finding,), notes=(path,))))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "".join(path.split()) in "".join(text.split())


def test_a_large_group_is_cut_in_the_summary() -> None:
    assert case_text(list("abcde")) == "a ↔ b ↔ c ↔ 2 more"
    assert case_text(["a"]) == "a"


def test_the_summary_without_colour_has_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    file = io.StringIO()
    Console(file=file, width=80, force_terminal=True, color_system="truecolor", legacy_windows=False).print(health_summary(SICK))
    coloured = file.getvalue()
    bare = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines())
    assert "\x1b[" in coloured
    assert bare == plain(health_summary(SICK))
