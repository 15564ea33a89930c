"""What the pictures look like: tiny, constant, blurred, or of a shape that a square cuts into."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnkit.doctor.evidence import Evidence, Rows
from cnnkit.doctor.finding import Finding, Severity
from cnnkit.doctor.wording import enumerated, number, percent, share

Values = NDArray[np.float64]

MAX_ENLARGEMENT = 2.0  # an image is tiny if the network needs more than this many times its shorter side ...
MAX_MEDIAN_RATIO = 4.0  # ... or, where that is not known yet, if the median image has more than this many times its shorter side
USUAL_SHARE = 0.5  # a trait of more than this share of the images is how this data is, not an exception
RARE_SHARE, RARE_CLASS_SHARE = 0.01, 0.1  # exceptions up to this share of all images, and of their class, are a note
MIN_LUMA_STD = 2.0  # levels of luma: with less standard deviation there is no picture; the least of CIFAR-10's images is 4.1
MIN_DIM_STD = 8.0  # levels: a nearly black or white image with less is no picture either, but noise or dust
BLACK_LEVEL, WHITE_LEVEL = 12.0, 243.0  # levels of mean luma, 5 % from either end
MIN_RELATIVE_SHARPNESS = (
    0.25  # of the median sharpness: no sharp photograph lies below; see docs/benchmarks/LOG.md, "Flat and blurred images"
)
MIN_SHARPNESS_PIXELS = 64  # px of the shorter side; smaller images have no fine detail to lose
MIN_CLASS_IMAGES = 20  # images that a class must have before its own median counts
MAX_CROP_LOSS = 0.5  # share of its pixels an image may lose to a centre crop; 3:2 photographs lose 0.33, 16:9 lose 0.44
WARNING_CROP_SHARE = 0.1  # share of such images from which the mode of resizing decides the result
MAX_SHAPE_RATIO = 1.15  # shapes that differ by no more than this factor are distorted alike when squashed


def tiny(evidence: Evidence) -> Finding | None:
    """Find images that must be enlarged so much that they are mostly invented pixels."""
    rows = evidence.readable
    if not len(rows):
        return None
    sides = np.minimum(evidence.of(lambda facts: facts.width), evidence.of(lambda facts: facts.height))[rows]
    median = float(np.median(sides))
    size, factor = (evidence.image_size, MAX_ENLARGEMENT) if evidence.image_size else (median, MAX_MEDIAN_RATIO)
    small = sides * factor < size
    if not small.any():
        return None
    if small.mean() > USUAL_SHARE:
        message = (
            f"The images are small for this network: it sees {size:.0f} px, half of them have {median:.0f} px or less on their shorter "
            f"side and are enlarged. --image-size {max(8, round(median))} is faster and loses nothing."
        )
        return Finding("tiny", Severity.NOTE, (), message)
    found = rows[small]
    compared = f"the network sees {size:.0f} px" if evidence.image_size else f"half of the images have {median:.0f} px or more"
    message = (
        f"{_how_many(evidence, found)} tiny, the smallest {sides.min():.0f} px on the shorter side, where {compared}. "
        f"Kept and enlarged; delete what was meant as a thumbnail or an icon."
    )
    return Finding("tiny", _by_share(evidence, found), evidence.one_each(found), message)


def constant(evidence: Evidence) -> Finding | None:
    """Find images without a picture: one colour all over, or nearly black or nearly white."""
    mean, std = evidence.of(lambda facts: facts.mean), evidence.of(lambda facts: facts.std)
    readable = np.isin(np.arange(len(mean)), evidence.readable)
    black, white = readable & (mean < BLACK_LEVEL) & (std < MIN_DIM_STD), readable & (mean > WHITE_LEVEL) & (std < MIN_DIM_STD)
    one_colour = readable & (std < MIN_LUMA_STD) & ~black & ~white
    found = np.flatnonzero(black | white | one_colour)
    if not len(found):
        return None
    kinds = [(black, "black or nearly so"), (white, "white or nearly so"), (one_colour, "of one colour")]
    said = enumerated([f"{mask.sum():,} {name}" for mask, name in kinds if mask.any()])
    message = (
        f"{_how_many(evidence, found)} without a picture: {said}. "
        f"Kept, though there is nothing to learn but by heart; delete unless the class looks like that."
    )
    return Finding("constant", _by_share(evidence, found), evidence.one_each(found), message)


def blurred(evidence: Evidence) -> Finding | None:
    """Find images with less than `MIN_RELATIVE_SHARPNESS` of the median sharpness of their class and of all images."""
    sides = np.minimum(evidence.of(lambda facts: facts.width), evidence.of(lambda facts: facts.height))
    sharpness, std = evidence.of(lambda facts: facts.sharpness), evidence.of(lambda facts: facts.std)
    rows = np.flatnonzero((sides >= MIN_SHARPNESS_PIXELS) & (std >= MIN_LUMA_STD))
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
        f"{_how_many(evidence, found)} blurred: less than a quarter as sharp as the median image, the worst {percent(relative.min())} "
        f"as sharp. Kept; look, and delete what you could not tell yourself."
    )
    return Finding("blurred", _by_share(evidence, found), evidence.one_each(found), message)


def odd_aspect(evidence: Evidence) -> Finding | None:
    """Find images of which a centre crop loses more than `MAX_CROP_LOSS` of the pixels; recommends another ``--resize-mode``."""
    rows = evidence.readable
    ratios = (evidence.of(lambda facts: facts.width)[rows] / evidence.of(lambda facts: facts.height)[rows]) if len(rows) else np.zeros(0)
    lost = 1 - np.minimum(ratios, 1 / ratios)
    odd = lost > MAX_CROP_LOSS
    found = rows[odd]
    if not len(found):
        return None
    low, high = np.quantile(ratios, (0.05, 0.95))
    if high / low <= MAX_SHAPE_RATIO:
        advice = f"nearly all have the shape {np.median(ratios):.2f}:1, so --resize-mode squash keeps everything and distorts all alike"
    else:
        advice = f"--resize-mode pad keeps everything and gives {percent(lost[odd].mean())} of their square to a gray border"
    message = (
        f"{_how_many(evidence, found)} more than twice as long as wide: --resize-mode crop, the default, loses {percent(lost[odd].mean())} "
        f"of these pixels ({percent(lost.mean())} over all images); {advice}."
    )
    severity = Severity.WARNING if odd.mean() > WARNING_CROP_SHARE else Severity.NOTE
    return Finding("odd-aspect", severity, evidence.one_each(found), message)


def _how_many(evidence: Evidence, found: Rows) -> str:
    return f"{number(len(found))} ({share(len(found), len(evidence.records))})"


def _by_share(evidence: Evidence, found: Rows) -> Severity:
    """A warning if many images are concerned, or a good part of one class."""
    of_class = np.bincount(evidence.labels[found], minlength=len(evidence.classes)) / np.bincount(evidence.labels)
    rare = len(found) <= RARE_SHARE * len(evidence.records) and bool((of_class <= RARE_CLASS_SHARE).all())
    return Severity.NOTE if rare else Severity.WARNING
