from __future__ import annotations

import math
from itertools import pairwise

import pytest

from cnnkit.report.page.chart import BOTTOM, HEIGHT, LEFT, MAX_DOTS, RIGHT, TOP, WIDTH, Axis, Line, chart


def test_the_ends_of_fixed_axes_are_the_edges_of_the_drawing():
    drawn = chart([Line("a", [(0, 0), (1, 1)])], Axis("x", low=0, high=1), Axis("y", low=0, high=1), title="t", description="d")
    assert drawn
    assert drawn.strokes[0].path == f"M{LEFT} {HEIGHT - BOTTOM}L{WIDTH - RIGHT} {TOP}"
    assert drawn.x_ticks[0] == (LEFT, "0")
    assert drawn.y_ticks[-1] == (TOP, "1")


def test_there_is_no_chart_without_a_finite_point():
    assert chart([Line("a", [(1, math.nan)])], Axis("x"), Axis("y"), title="", description="") is None


def test_a_point_that_is_not_finite_interrupts_the_line():
    drawn = chart([Line("a", [(1, 1), (2, 2), (3, math.nan), (4, 1)])], Axis("x"), Axis("y"), title="", description="")
    assert drawn
    assert [drawn.strokes[0].path.count(pen) for pen in "ML"] == [2, 1]
    assert len(drawn.strokes[0].dots) == 3


def test_ticks_of_epochs_are_whole_and_ticks_of_shares_are_percent():
    drawn = chart([Line("a", [(1, 0.5), (3, 0.52)])], Axis("epoch", whole=True), Axis("y", percent=True), title="", description="")
    assert drawn
    assert [label for _, label in drawn.x_ticks] == ["1", "2", "3"]
    assert all(label.endswith(" %") for _, label in drawn.y_ticks)
    assert len({label for _, label in drawn.y_ticks}) == len(drawn.y_ticks)


def test_a_stretched_axis_gives_room_to_probabilities_near_1():
    axes = [Axis(name, percent=True, low=0.8, high=1.0, stretched=True) for name in "xy"]
    drawn = chart([Line("a", [(0.8, 0.8), (0.99, 0.99), (1.0, 1.0)])], *axes, title="", description="")
    assert drawn
    (start, middle, end), (low, half, high) = zip(*drawn.strokes[0].dots, strict=True)
    assert (start, end, low, high) == (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP)
    assert 0.4 < (middle - start) / (end - start) < 0.6, "99 % lies near the end of a plain axis"
    assert (half - low) / (high - low) == pytest.approx((middle - start) / (end - start), abs=0.01)
    assert drawn.x_ticks[-1] == (WIDTH - RIGHT, "100 %")
    assert min(after[0] - before[0] for before, after in pairwise(drawn.x_ticks)) >= 40


def test_a_single_epoch_is_in_the_middle():
    drawn = chart([Line("a", [(1, 2.0)])], Axis("epoch", whole=True), Axis("y"), title="", description="")
    assert drawn
    assert drawn.strokes[0].dots[0][0] == (LEFT + WIDTH - RIGHT) / 2


def test_many_points_have_no_dots_and_whiskers_span_their_interval():
    many = [(index, 0.5) for index in range(MAX_DOTS + 1)]
    drawn = chart([Line("a", many, spans=[(1, 0.0, 1.0)])], Axis("x"), Axis("y", low=0, high=1), title="", description="")
    assert drawn
    assert drawn.strokes[0].dots == ()
    assert drawn.strokes[0].whiskers[0][1:] == (HEIGHT - BOTTOM, TOP)
