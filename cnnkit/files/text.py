"""The text of tables and JSON documents, and names that are no UTF-8."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

CSV_ROWS = 4096  # of a piece of a table's text
_ESCAPE = re.compile(r"\\udc([89a-f][0-9a-f])")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return `rows` as CSV (RFC 4180) under a header of `columns`; raises `ValueError` for a row with another column."""
    return "".join(csv_parts(columns, rows))


def csv_parts(columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Yield the pieces of `csv_text`, `CSV_ROWS` rows at a time, since the text of millions of rows would fill the memory."""
    names, remaining = list(columns), iter(rows)
    text = io.StringIO(newline="")
    csv.DictWriter(text, names).writeheader()
    yield text.getvalue()
    while block := list(islice(remaining, CSV_ROWS)):
        text = io.StringIO(newline="")
        csv.DictWriter(text, names).writerows(block)
        yield text.getvalue()


def json_text(value: object, *, ascii_only: bool = False) -> str:
    r"""Return `value` as a JSON document in UTF-8, or in ASCII if `ascii_only`.

    An invalid byte of a file name becomes an escape such as ``\udcff``, which Python reads as a name that `open` accepts (PEP 383).
    Raises `ValueError` for NaN and infinity.
    """
    text = json.dumps(value, indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def class_columns(classes: Iterable[str], taken: Iterable[str]) -> list[str]:
    """Return one column name per class: its name, or ``class NAME`` if another column has that name."""
    reserved = set(taken)
    return [f"class {name}" if name in reserved else name for name in classes]


def utf8(text: str) -> bytes:
    r"""Return `text` in UTF-8; an invalid byte of a file name becomes an escape such as ``\udcff``, as in JSON."""
    return text.encode("utf-8", "backslashreplace")


def restored(text: str) -> str:
    """Return `text` with the invalid bytes that `utf8` escaped, as a name that `open` accepts (PEP 383)."""
    return _ESCAPE.sub(lambda found: chr(0xDC00 + int(found[1], 16)), text) if "\\udc" in text else text
