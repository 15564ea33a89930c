"""The summary of a comparison of models in the terminal, within 80 columns; compare.json has every number too."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from string import ascii_uppercase

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cnnkit.metrics.comparison import PairComparison
from cnnkit.metrics.comparison_report import ChangedImage, Comparison
from cnnkit.metrics.comparison_verdict import p_text, verdict
from cnnkit.metrics.intervals import Estimate
from cnnkit.metrics.paired import SIGNIFICANCE
from cnnkit.report.terminal.console import escaped
from cnnkit.report.terminal.numbers import gain_cells, images_text, percent, share_cells

_MAX_PAIRS = 3  # with images on the screen; compare.csv has the images of all pairs
_MAX_IMAGES, _MAX_IMAGES_OF_SEVERAL_PAIRS = 5, 3  # fixed images, and broken images, of one pair
_MAX_CLASSES = 20  # on the screen, by p-value
_SCOPE = "These results apply to these trained models on similar images; another seed of the same recipe gives another model."


def comparison_summary(comparison: Comparison) -> RenderableType:
    """Return the models with their scores, the differences, the verdicts, and the classes and images that differ."""
    parts: list[RenderableType] = [_models(comparison), "", _differences(comparison), ""]
    parts += [Text("verdict: ", style="bold").append(escaped(verdict(pair)), style="not bold") for pair in comparison.pairs]
    parts += [Text(_SCOPE, style="dim"), "", *_classes(comparison)]
    if len(comparison.pairs) > _MAX_PAIRS:
        parts += ["", Text(f"The fixed and broken images of all {len(comparison.pairs)} pairs are in compare.csv.", style="dim")]
        return Group(*parts)
    for pair in comparison.pairs:
        parts += ["", *_images(comparison, pair)]
    return Group(*parts)


def final_sentence(comparison: Comparison) -> str:
    """Return the verdict on two models, or the numbers of pairs and images of more models."""
    if len(comparison.pairs) == 1:
        return verdict(comparison.pairs[0])
    return f"{len(comparison.pairs)} pairs of models compared on the same {images_text(len(comparison.paths), comparison.units)}"


def _letters(comparison: Comparison) -> dict[str, str]:
    """Return a short sign for each model, because names of runs are too long for column heads."""
    names = [each.name for each in comparison.contenders]
    signs = ascii_uppercase if len(names) <= len(ascii_uppercase) else [str(number + 1) for number in range(len(names))]
    return dict(zip(names, signs, strict=False))


def _models(comparison: Comparison) -> Table:
    count = len(comparison.paths)
    table = _table(f"{comparison.split}: the same {images_text(count, comparison.units)}, {len(comparison.classes)} classes")
    table.add_column("")
    table.add_column("model", overflow="fold")
    for head in ("accuracy", "95 % interval", "macro F1", "loss (nats)"):
        table.add_column(head, justify="right", no_wrap=True)
    letters = _letters(comparison)
    for each in comparison.contenders:
        score = each.score
        shares = share_cells(score.accuracy)
        table.add_row(
            letters[each.name], Text(escaped(each.name)), *shares, f"{percent(score.macro_f1.value)} %", f"{score.loss.value:.3f}"
        )
    return table


def _differences(comparison: Comparison) -> Table:
    several = len(comparison.pairs) > 1
    table = _table()
    for head in ("from", "", "change"):
        table.add_column(head, no_wrap=True, justify="right" if head == "change" else "left")
    for head in ("95 % interval", "p (Holm)" if several else "p", "fixed", "broken"):
        table.add_column(head, justify="right", no_wrap=True)
    letters = _letters(comparison)
    for pair in comparison.pairs:
        counts = f"{pair.counts.only_second:,}", f"{pair.counts.only_first:,}"
        style = "bold" if pair.better else ""
        table.add_row(_arrow(letters, pair), "accuracy", *_points(pair.accuracy), _bare(p_text(pair.corrected)), *counts, style=style)
        table.add_row("", "macro F1", *_points(pair.macro_f1))
        table.add_row("", "loss", *_nats(pair.loss), end_section=pair is not comparison.pairs[-1])
    return table


def _classes(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield the classes whose recall differs significantly, or a sentence if there is none."""
    clear = [(pair, each) for pair in comparison.pairs for each in pair.per_class if each.is_clear]
    tests = sum(len(pair.per_class) for pair in comparison.pairs)
    family = f"p < {SIGNIFICANCE:.2g} after Holm's correction for {tests:,} tests"
    if not clear:
        yield Text(f"No class has a significantly different recall ({family}).", style="dim")
        return
    yield Text(f"Classes of significantly different recall, in points ({family})", style="bold")
    table = _table()
    table.add_column("from", no_wrap=True)
    table.add_column("class", overflow="fold")
    for head in ("recall", "95 % interval", "p", "fixed", "broken"):
        table.add_column(head, justify="right", no_wrap=True)
    letters = _letters(comparison)
    shown = sorted(clear, key=lambda found: found[1].p)[:_MAX_CLASSES] if len(clear) > _MAX_CLASSES else clear
    for pair, each in shown:
        counts = (f"{count:,}" for count in (each.counts.only_second, each.counts.only_first))
        table.add_row(
            _arrow(letters, pair), Text(escaped(each.name)), *_points(each.recall, unit=""), _bare(p_text(each.corrected)), *counts
        )
    yield table
    if len(shown) < len(clear):
        yield Text(f"The {len(shown)} classes of smallest p; all {len(clear):,} are in compare.json.", style="dim")


def _images(comparison: Comparison, pair: PairComparison) -> Iterator[RenderableType]:
    """Yield the counts of a pair and the table of its first fixed and broken images."""
    counts, letters = pair.counts, _letters(comparison)
    yield Text(
        f"{_arrow(letters, pair)}: {counts.only_second:,} fixed, {counts.only_first:,} broken; "
        f"both right on {counts.both:,}, both wrong on {counts.neither:,}",
        style="bold",
    )
    if not counts.only_first and not counts.only_second:
        return
    table = _table()
    for head in ("", "image", "true"):
        table.add_column(head, overflow="fold", no_wrap=not head)
    for name in (pair.first, pair.second):
        table.add_column(letters[name], overflow="fold")
    limit = _MAX_IMAGES if len(comparison.pairs) == 1 else _MAX_IMAGES_OF_SEVERAL_PAIRS
    fixed, broken = (list(islice(_changed_images(comparison, pair, fixed=kind), limit)) for kind in (True, False))
    for change in (*fixed, *broken):
        predictions = (Text(f"{escaped(name)} {percent(share)} %") for name, share in (change.first, change.second))
        table.add_row("fixed" if change.fixed else "broken", Text(escaped(change.path)), Text(escaped(change.true)), *predictions)
    yield table
    if len(fixed) + len(broken) < counts.only_first + counts.only_second:
        yield Text("The largest changes of the loss; compare.csv has all images.", style="dim")


def _changed_images(comparison: Comparison, pair: PairComparison, *, fixed: bool) -> Iterator[ChangedImage]:
    return (change for change in comparison.changes(pair) if change.fixed == fixed)


def _arrow(letters: dict[str, str], pair: PairComparison) -> str:
    return f"{letters[pair.first]} → {letters[pair.second]}"


def _points(difference: Estimate, unit: str = " points") -> tuple[str, str]:
    return gain_cells(difference, scale=100, digits=1, unit=unit)


def _nats(difference: Estimate) -> tuple[str, str]:
    value, interval = gain_cells(difference)
    return f"{value} nats", interval


def _bare(text: str) -> str:
    return text.removeprefix("p = ").removeprefix("p ")


def _table(title: str | None = None) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
