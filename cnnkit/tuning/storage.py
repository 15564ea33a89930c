"""The storage of a search: a journal file or a database, opened by Optuna, with its faults told in the words of cnnkit."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cnnkit.errors import CnnkitError, ConfigError, MissingExtraError, ModelFileError, TrainingStoppedError, hide_passwords

JOURNAL_NAME = "search.journal"
MAX_OPENINGS, OPENING_SECONDS = 5, 0.5  # of an empty database, in which several workers make the tables at once


class Storage:
    """The database at `url`, or the journal in `folder` without one. `shown` names it without its password."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.shown = shown_url(url) if url else str(folder / JOURNAL_NAME)
        self._folder, self._url = folder, url
        self._optuna = import_optuna()
        self._opened: Any = None

    def close(self) -> None:
        """Close the connections to a database; a journal has none."""
        engine = getattr(self._opened, "engine", None)
        if engine is not None:
            self._opened.remove_session()
            engine.dispose()

    @contextmanager
    def opened(self) -> Generator[Any]:
        """Run the body with the opened storage of Optuna; raises `ConfigError` for its errors, and closes its connections."""
        try:
            self._opened = self._open_database(self._url) if self._url else self._open_journal(self._folder / JOURNAL_NAME)
            yield self._opened
        except CnnkitError:
            self.close()
            raise
        except ImportError as error:
            raise MissingExtraError(
                f"--storage {self.shown}: the driver of the database is not installed ({error}); "
                "for PostgreSQL type: pip install 'cnnkit[tune-postgresql]'"
            ) from None
        except Exception as error:
            self.close()
            if _is_damage(error):
                raise self._damaged(error) from None
            raise ConfigError(f"--storage {self.shown}: cannot be opened: {_reason(error)}; check the URL and the server") from error

    @contextmanager
    def working(self) -> Generator[None]:
        """Raise `TrainingStoppedError` for an error of the database in the body; a damaged journal is a `ModelFileError`."""
        try:
            yield
        except (OSError, self._optuna.exceptions.StorageInternalError) as error:
            raise TrainingStoppedError(
                f"the storage {self.shown} failed: {_reason(error)}; the finished trials are kept; "
                "repair it, and type the command again to continue"
            ) from error
        except ValueError as error:
            if not _is_damage(error):
                raise
            raise self._damaged(error) from None
        except Exception as error:
            if not type(error).__module__.startswith("sqlalchemy"):
                raise
            raise TrainingStoppedError(
                f"the storage {self.shown} failed: {_reason(error)}; the finished trials are kept; type the command again to continue"
            ) from error

    def _damaged(self, error: Exception) -> ModelFileError:
        return ModelFileError(
            f"{self.shown}: the journal is damaged ({error}); restore it from a copy, or begin another search: --name NAME"
        )

    def _open_journal(self, file: Path) -> Any:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        lock = JournalFileOpenLock(str(file))
        lock.acquire()
        try:
            cut_torn_line(file)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(file), lock_obj=lock))

    def _open_database(self, url: str) -> Any:
        from optuna.storages import RDBStorage
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import IntegrityError, ProgrammingError
        from sqlalchemy.pool import NullPool

        url = with_driver(url)
        if "@" in (make_url(url).host or ""):
            raise ConfigError(f"--storage {self.shown}: a user name or a password with an @ is ambiguous; write %40 in its place")
        for _ in range(MAX_OPENINGS - 1):
            with suppress(IntegrityError, ProgrammingError):  # another worker has just made the same tables
                RDBStorage(url, engine_kwargs={"poolclass": NullPool})  # an attempt that fails leaves no connection open
                break
            time.sleep(OPENING_SECONDS)
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True})


def import_optuna() -> Any:
    """Return the package Optuna, which writes no messages of its own; raises `MissingExtraError` if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("cnnkit tune needs the package optuna; type: pip install 'cnnkit[tune]'") from None
    optuna.logging.set_verbosity(logging.ERROR)
    return optuna


def cut_torn_line(file: Path) -> None:
    """Remove the last line of a journal if it has no end: a full disk cut it, and the next line would join it."""
    if not file.exists():
        return
    with file.open("r+b") as journal:
        content = journal.read()
        if content and not content.endswith(b"\n"):
            journal.truncate(content.rfind(b"\n") + 1)


def with_driver(url: str) -> str:
    """Return the URL of a database with the driver psycopg for PostgreSQL, unless it names a driver."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in {"postgresql", "postgres"} else url


def shown_url(url: str) -> str:
    """Return the URL of a database without its password, for messages; one without a scheme is shown after its last @."""
    return hide_passwords(url) if "://" in url else f"***@{url.rpartition('@')[2]}" if "@" in url else url


def _is_damage(error: Exception) -> bool:
    """Return True for the errors of Optuna about a line of a journal that is no entry."""
    return isinstance(error, ValueError) and ("log format" in str(error) or type(error).__name__ == "JSONDecodeError")


def _reason(error: BaseException) -> str:
    """Return the innermost cause of an error in one line: that of the database, below the wrappers of its client."""
    while error.__cause__ is not None:
        error = error.__cause__
    return hide_passwords(str(error).strip().partition("\n")[0]) or type(error).__name__


@contextmanager
def quiet() -> Generator[None]:
    """Show no warning of Optuna in the body: they tell of functions that may change, which the version in pyproject.toml settles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
