from __future__ import annotations

import re

from cnnkit.report.page.html import _hash
from cnnkit.report.page.serve import serve_html


def test_names_from_the_model_are_escaped():
    page = serve_html("<script>alert(1)</script>", ["a<b", "c\x1b"], has_threshold=True, has_sets=True)
    assert page.count("<script>") == 1
    assert "a&lt;b, c\\x1b" in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_policy_has_the_hash_of_the_one_script():
    page = serve_html("m", ["a", "b"], has_threshold=False, has_sets=False)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert f"script-src {_hash(script)};" in page
    assert " style=" not in page


def test_the_page_shows_the_rules_that_the_model_has():
    plain = serve_html("m", ["a", "b"], has_threshold=False, has_sets=False)
    assert "below its threshold" not in plain
    assert "One of</th>" not in plain
    ruled = serve_html("m", [f"class {index}" for index in range(100)], has_threshold=True, has_sets=True)
    assert "below its threshold" in ruled
    assert "One of</th>" in ruled
    assert "100 classes" in ruled
    assert "88 more" in ruled
