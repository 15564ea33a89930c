from __future__ import annotations

import pytest

from cnnkit.doctor.wording import enumerated, share


@pytest.mark.parametrize(("part", "said"), [(0, "0.0 %"), (1, "below 0.1 %"), (320, "3.2 %"), (4200, "42 %"), (10_000, "100 %")])
def test_shares(part, said) -> None:
    assert share(part, 10_000) == said


def test_long_enumerations_are_shortened() -> None:
    assert enumerated(["a"]) == "a"
    assert enumerated(["a", "b", "c"]) == "a, b and c"
    assert enumerated(list("abcdefg")) == "a, b, c and 4 more"
