from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cnnkit.errors import ConfigError, MissingExtraError, TrainingStoppedError
from cnnkit.tuning.storage import Storage, cut_torn_line, import_optuna, shown_url, with_driver

pytest.importorskip("optuna")


def open_storage(url: str) -> None:
    """Open the database at `url`."""
    with Storage(Path(), url).opened():
        pass


def test_a_missing_or_empty_journal_has_no_torn_line(tmp_path):
    file = tmp_path / "journal"
    cut_torn_line(file)
    assert not file.exists()
    file.write_bytes(b"")
    cut_torn_line(file)
    assert file.read_bytes() == b""
    file.write_bytes(b"torn")
    cut_torn_line(file)
    assert file.read_bytes() == b""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("postgresql:/me:secret@host/db", "***@host/db"),
        ("me:secret@host/db", "***@host/db"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_a_storage_is_shown_without_its_password(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize("password", ["secret", "se%40cret", "se%3Acret", "se%2Fcret", "se@cret", "my secret"])
def test_no_message_on_a_storage_has_its_password(password):
    pytest.importorskip("psycopg")
    with pytest.raises(ConfigError) as refused:
        open_storage(f"postgresql://me:{password}@127.0.0.1:1/db")
    assert str(refused.value).startswith("--storage postgresql://me:***@127.0.0.1:1/db: ")
    assert "cret" not in str(refused.value)
    assert ("write %40 in its place" in str(refused.value)) == ("@" in password)


def test_an_error_of_the_storage_is_told_without_a_password(tmp_path):
    storage = Storage(tmp_path)
    with pytest.raises(TrainingStoppedError, match=r"failed: the server of a://me:\*\*\*@host has gone; the finished"), storage.working():
        raise OSError("the server of a://me:secret@host has gone")


def test_postgresql_gets_the_driver_of_the_extra():
    assert with_driver("postgresql://host/db") == "postgresql+psycopg://host/db"
    assert with_driver("postgresql+pg8000://host/db") == "postgresql+pg8000://host/db"
    assert with_driver("sqlite:///x.db") == "sqlite:///x.db"


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db", "unknown://host/db"])
def test_a_database_that_does_not_open_is_refused_with_its_url(url):
    with pytest.raises(ConfigError, match=f"--storage {url}: cannot be opened: .*; check the URL and the server"):
        open_storage(url)


def test_without_optuna_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"cnnkit tune needs the package optuna; type: pip install 'cnnkit\[tune\]'"):
        import_optuna()
