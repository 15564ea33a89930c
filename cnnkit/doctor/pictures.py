"""Checks of the pictures: tiny, constant or blurred images, and aspect ratios that a square crop cuts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, percent, share
from cnnkit.errors import counted

Values = NDArray[np.float64]

MAX_ENLARGEMENT = 2.0  # an image is tiny if the size of the network's input exceeds this multiple of its shorter side
MAX_MEDIAN_RATIO = 4.0  # without a known input size, an image is tiny if the median image exceeds this multiple of it
USUAL_SHARE = 0.5  # a trait of more than this share of the images is usual for this data, not an exception
RARE_SHARE, RARE_CLASS_SHARE = 0.01, 0.1  # exceptions up to these shares of all images, and of their class, are a note
MIN_LUMA_STD = 2.0  # levels: an image with a smaller standard deviation shows no picture; the minimum of CIFAR-10 is 4.1
MIN_DIM_STD = 8.0  # levels: a nearly black or white image with a smaller standard deviation shows only noise or dust
BLACK_LEVEL, WHITE_LEVEL = 12.0, 243.0  # levels of mean luma, 5 % from both ends
# Of the median sharpness. No sharp photograph is below it: see docs/benchmarks/LOG.md, "Flat and blurred images".
MIN_RELATIVE_SHARPNESS = 0.25
MIN_SHARPNESS_PIXELS = 64  # px of the shorter side; smaller images have no fine detail to lose
MIN_CLASS_IMAGES = 20  # a smaller class has no median of its own
MAX_CROP_LOSS = 0.5  # share of the pixels that a centre crop may remove; 3:2 photographs lose 0.33, 16:9 lose 0.44
WARNING_CROP_SHARE = 0.1  # with more such images, the mode of resizing decides the result
MAX_SHAPE_RATIO = 1.15  # shapes within this factor are distorted equally when squashed


def tiny(evidence: Evidence) -> Finding | None:
    """Find images whose enlarged version would consist mostly of interpolated pixels."""
    rows = evidence.readable
    if not len(rows):
        return None
    lengths = _shorter_sides(evidence)[rows]
    median = float(np.median(lengths))
    size, factor = (evidence.image_size, MAX_ENLARGEMENT) if evidence.image_size else (median, MAX_MEDIAN_RATIO)
    small = lengths * factor < size
    if not small.any():
        return None
    if small.mean() > USUAL_SHARE:
        message = (
            f"The images are small for this network, which sees {size:.0f} px. Half of the images have at most {median:.0f} px on their "
            f"shorter side and are enlarged. --image-size {max(8, round(median))} is faster and loses nothing."
        )
        return Finding("tiny", Severity.NOTE, (), message)
    found = rows[small]
    compared = f"the network sees {size:.0f} px" if evidence.image_size else f"half of the images have at least {median:.0f} px"
    message = (
        f"{_how_many(evidence, found)} tiny: the smallest has {lengths.min():.0f} px on the shorter side, while {compared}. "
        f"Training enlarges them; delete thumbnails and icons."
    )
    return Finding("tiny", _by_share(evidence, found), evidence.one_each(found), message)


def constant(evidence: Evidence) -> Finding | None:
    """Find images without a picture: of one colour, nearly black or nearly white."""
    mean, std = evidence.of("mean"), evidence.of("std")
    readable = np.isin(np.arange(len(mean)), evidence.readable)
    black, white = readable & (mean < BLACK_LEVEL) & (std < MIN_DIM_STD), readable & (mean > WHITE_LEVEL) & (std < MIN_DIM_STD)
    one_colour = readable & (std < MIN_LUMA_STD) & ~black & ~white
    found = np.flatnonzero(black | white | one_colour)
    if not len(found):
        return None
    kinds = [(black, "nearly black"), (white, "nearly white"), (one_colour, "of one colour")]
    listed = enumerated([f"{mask.sum():,} {name}" for mask, name in kinds if mask.any()])
    message = (
        f"{_how_many(evidence, found)} without a picture: {listed}. "
        f"Training keeps them, but a network can only memorise them; delete them unless the class looks like this."
    )
    return Finding("constant", _by_share(evidence, found), evidence.one_each(found), message)


def blurred(evidence: Evidence) -> Finding | None:
    """Find images with less than `MIN_RELATIVE_SHARPNESS` of the median sharpness of their class and of all images."""
    lengths = _shorter_sides(evidence)
    sharpness, std = evidence.of("sharpness"), evidence.of("std")
    rows = np.flatnonzero((lengths >= MIN_SHARPNESS_PIXELS) & (std >= MIN_LUMA_STD))
    if not len(rows):
        return None
    expected = np.full(len(evidence.classes), np.median(sharpness[rows]))
    for label in range(len(expected)):
        own = sharpness[rows[evidence.labels[rows] == label]]
        if len(own) >= MIN_CLASS_IMAGES:
            expected[label] = min(expected[label], float(np.median(own)))
    relative = sharpness[rows] / expected[evidence.labels[rows]].clip(min=1e-9)
    found = rows[relative < MIN_RELATIVE_SHARPNESS]
    if not len(found):
        return None
    message = (
        f"{_how_many(evidence, found)} blurred, with less than a quarter of the median sharpness; the worst has {percent(relative.min())} "
        f"of it. Training keeps them; look at them, and delete images that you cannot recognise yourself."
    )
    return Finding("blurred", _by_share(evidence, found), evidence.one_each(found), message)


def odd_aspect(evidence: Evidence) -> Finding | None:
    """Find images that lose more than `MAX_CROP_LOSS` of their pixels in a centre crop, and recommend another ``--resize-mode``."""
    rows = evidence.readable
    ratios = (evidence.of("width")[rows] / evidence.of("height")[rows]) if len(rows) else np.zeros(0)
    lost = 1 - np.minimum(ratios, 1 / ratios)
    odd = lost > MAX_CROP_LOSS
    found = rows[odd]
    if not len(found):
        return None
    low, high = np.quantile(ratios, (0.05, 0.95))
    if high / low <= MAX_SHAPE_RATIO:
        advice = f"nearly all have the shape {np.median(ratios):.2f}:1, so --resize-mode squash keeps everything and distorts all equally"
    else:
        advice = f"--resize-mode pad keeps everything and fills {percent(lost[odd].mean())} of their square with a gray border"
    message = (
        f"{_how_many(evidence, found)} more than twice as long as wide. --resize-mode crop, the default, loses {percent(lost[odd].mean())} "
        f"of their pixels ({percent(lost.mean())} over all images); {advice}."
    )
    severity = Severity.WARNING if odd.mean() > WARNING_CROP_SHARE else Severity.NOTE
    return Finding("odd-aspect", severity, evidence.one_each(found), message)


def _shorter_sides(evidence: Evidence) -> Values:
    """Return the length in pixels of the shorter side of every image, (N,)."""
    return np.minimum(evidence.of("width"), evidence.of("height"))


def _how_many(evidence: Evidence, found: Rows) -> str:
    return f"{counted(len(found))} ({share(len(found), len(evidence.records))})"


def _by_share(evidence: Evidence, found: Rows) -> Severity:
    """Return WARNING if the images `found` are many, or a large part of one class, else NOTE."""
    of_class = np.bincount(evidence.labels[found], minlength=len(evidence.classes)) / np.bincount(evidence.labels)
    rare = len(found) <= RARE_SHARE * len(evidence.records) and bool((of_class <= RARE_CLASS_SHARE).all())
    return Severity.NOTE if rare else Severity.WARNING
