"""The geometry of a training without weights, and that of the default settings, which is known before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from cnnkit.config.settings import ModelConfig
from cnnkit.data.dataset import typical_side
from cnnkit.data.source import Record, Source
from cnnkit.errors import DataError
from cnnkit.model.preprocessing import Preprocessing, draft_side_for
from cnnkit.registry import ARCHITECTURES, find, peek

MIN_IMAGE_SIZE = 32  # px: smaller images are scaled up; three poolings of 2 leave 4 x 4
# More canvases are not made ahead: they are for a training that may never come.
MAX_BYTES_AHEAD = 2**30


def scratch_size(architecture_size: int, side: int) -> int:
    """Return the smaller of the size of an architecture and `side` px, the typical length of the shorter edge of the images."""
    return min(architecture_size, max(MIN_IMAGE_SIZE, -(-side // 8) * 8))  # three poolings of 2 clip no pixel of a multiple of 8


def scratch_preprocessing(config: ModelConfig, image_size: int) -> Preprocessing:
    """Return the preprocessing of a training without weights; mean and std are placeholders for those of the images."""
    mean, std = (0.0,) * config.channels, (1.0,) * config.channels
    return Preprocessing(
        image_size=image_size,
        channels=config.channels,
        resize_mode=config.resize_mode,
        mean=mean,
        std=std,
        draft_side=draft_side_for(image_size, 1.0) if config.draft else None,
    )


def default_geometries(source: Source, records: Sequence[Record]) -> tuple[Preprocessing, ...]:
    """Return the geometry of ``cnnkit train --data`` without other flags, for the canvases that a scan makes ahead.

    It is empty if the canvases would take more than `MAX_BYTES_AHEAD`, if no image can be read, or if the source of the architecture
    does not state its size.
    """
    config = ModelConfig()
    size = next((peek(entry).image_size for entry in find(ARCHITECTURES).get(config.arch, ())), None)
    if size is None or len(records) * config.channels * size**2 > MAX_BYTES_AHEAD:
        return ()
    try:
        return (scratch_preprocessing(config, scratch_size(size, typical_side(source, records))),)
    except DataError:  # the scan names the unreadable images
        return ()
