from __future__ import annotations

import pytest


def test_a_missing_package_is_one_sentence(cli, monkeypatch):
    monkeypatch.setattr("cnnkit.serve.PACKAGES", ("fastapi", "no_such_package"))
    done = cli("serve")
    assert done.code == 2
    assert "cnnkit serve needs the package no_such_package; type: pip install 'cnnkit[serve]'" in " ".join(done.err.split())


def test_without_a_run_the_message_says_so(cli):
    done = cli("serve")
    assert done.code == 2
    assert "no finished run" in done.err or "no runs" in done.err


@pytest.mark.parametrize("given", [("--queue", "0"), ("--port", "70000"), ("--timeout", "0"), ("--max-mb", "-1")])
def test_a_limit_outside_its_range_is_refused(cli, given):
    done = cli("serve", *given)
    assert done.code == 2
    assert given[0] in done.err
