from __future__ import annotations

from cnnkit.report.page.notebook import table_html


def test_cells_are_escaped():
    html = table_html(("class", "<n>"), [("<script>", "\x1b[31m")], caption="a & b")
    assert "<td>&lt;script&gt;</td><td>\\x1b[31m</td>" in html
    assert "<th>&lt;n&gt;</th>" in html
    assert "<caption>a &amp; b</caption>" in html
    assert "more" not in html


def test_rows_that_are_left_out_are_counted():
    assert "<p>and 1,233 more</p>" in table_html(("a",), [("1",)], total=1234)
