"""A part of a list of images, for a prediction that several processes share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from cnnkit.api.inference.prepared import MAX_BATCH_IMAGES
from cnnkit.errors import ConfigError

_Image = TypeVar("_Image")
_FORM = re.compile(r"([0-9]{1,9})/([0-9]{1,9})")


@dataclass(frozen=True)
class Shard:
    """The part `number`, from 1, of a list in `count` parts.

    Parts are contiguous and hold whole blocks of `MAX_BATCH_IMAGES` images. The batches of all parts are then those of the whole list, so
    the probabilities are equal to the last bit: a network may round differently in a batch of another size.
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``I/N`` such as ``1/3``; raises `ConfigError` for another form, and unless 1 <= I <= N."""
        found = _FORM.fullmatch(text.strip())
        number, count = (int(found[1]), int(found[2])) if found else (0, 0)
        if not 1 <= number <= count:
            raise ConfigError(f"--shard {text}: must be I/N, part I of N with I from 1 to N; for the first of three parts: --shard 1/3")
        return cls(number, count)

    def part(self, images: Sequence[_Image]) -> Sequence[_Image]:
        """Return the images of this part; without as many blocks as parts, the last parts are empty."""
        blocks = -(-len(images) // MAX_BATCH_IMAGES)
        first, end = (-(-blocks * number // self.count) for number in (self.number - 1, self.number))
        return images[first * MAX_BATCH_IMAGES : end * MAX_BATCH_IMAGES]
