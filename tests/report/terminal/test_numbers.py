from __future__ import annotations

import math

from cnnkit.metrics.intervals import Estimate
from cnnkit.report.terminal.numbers import gain_cells, number_cells, percent, share_cells, share_text

NAN = math.nan


def test_shares_become_percent_with_one_digit():
    assert [percent(share) for share in (0.0, 0.97149, 1.0, NAN)] == ["0.0", "97.1", "100.0", "-"]


def test_a_share_has_its_interval():
    accuracy = Estimate(0.971, 0.96, 0.98)
    assert share_cells(accuracy) == ("97.1 %", "[96.0, 98.0]")
    assert share_text(accuracy) == "97.1 % [96.0, 98.0]"
    assert share_text(accuracy, unit="") == "97.1 [96.0, 98.0]"
    assert share_cells(Estimate(NAN, NAN, NAN)) == ("-", "-")
    assert share_text(Estimate(NAN, NAN, NAN)) == "-"


def test_a_number_without_an_interval_has_a_dash():
    assert number_cells(Estimate(0.25, 0.2, 0.3)) == ("0.250", "[0.200, 0.300]")
    assert number_cells(Estimate(0.25, NAN, NAN)) == ("0.250", "-")


def test_a_difference_has_a_sign_unless_it_is_zero():
    assert gain_cells(Estimate(0.021, -0.004, 0.046), scale=100, digits=1, unit=" points") == ("+2.1 points", "[-0.4, +4.6]")
    assert gain_cells(Estimate(-0.0001, NAN, NAN), scale=100, digits=1) == ("0.0", "-")
