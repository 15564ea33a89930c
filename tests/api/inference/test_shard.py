from __future__ import annotations

import pytest

from cnnkit.api.inference.prepared import MAX_BATCH_IMAGES
from cnnkit.api.inference.shard import Shard
from cnnkit.errors import ConfigError


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("images", [0, 1, 10, 64, 65, 1000])
def test_parts_in_order_are_the_whole_in_blocks_of_a_batch(images, count):
    whole = list(range(images))
    parts = [Shard(number, count).part(whole) for number in range(1, count + 1)]
    assert [image for part in parts for image in part] == whole
    assert all(part[0] % MAX_BATCH_IMAGES == 0 for part in parts if part)
    blocks = [-(-len(part) // MAX_BATCH_IMAGES) for part in parts]
    assert max(blocks) - min(blocks) <= 1


def test_the_form_is_a_number_of_a_count():
    assert Shard.parse("2/3") == Shard(2, 3)
    assert Shard.parse(" 02/03") == Shard(2, 3)


@pytest.mark.parametrize(
    "text", ["", "2", "0/3", "4/3", "1/0", "-1/3", "1/3/2", "a/b", "1.0/2", "1/2 x", "9999999999/9999999999", "\u0661/2"]
)
def test_other_forms_are_refused_in_one_sentence(text):
    with pytest.raises(ConfigError, match=r"^--shard .*: must be I/N, part I of N with I from 1 to N; .* --shard 1/3$"):
        Shard.parse(text)
