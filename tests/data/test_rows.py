from __future__ import annotations

import pickle

from cnnkit.data.rows import Rows
from cnnkit.data.source import Record


def test_rows_arrive_as_they_left():
    records = (Record("a/1.jpg", "a", "train"), Record("b/2.jpg", "b", group="g"))
    rows = Rows(records)
    assert rows == records
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        arrived = pickle.loads(pickle.dumps(rows, protocol))  # noqa: S301 (our own)
        assert (type(arrived), arrived) == (tuple, records)
        assert all(isinstance(record, Record) for record in arrived)
    assert pickle.loads(pickle.dumps(Rows())) == ()  # noqa: S301


def test_rows_are_smaller_than_what_they_stand_for():
    records = tuple(Record(f"a/{number}.jpg", "a") for number in range(1000))
    assert len(pickle.dumps(Rows(records))) < 0.9 * len(pickle.dumps(records))
