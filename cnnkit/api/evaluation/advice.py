"""Advice at the end of an evaluation: another start for a training from scratch with few images."""

from __future__ import annotations

from cnnkit.api.inference.target import Target
from cnnkit.doctor.few_images import few_images_note
from cnnkit.errors import ModelFileError


def few_images_advice(target: Target) -> str:
    """Return the note on the run of `target` if it trained from scratch on few images; else, or without a run, an empty text."""
    if target.run is None:
        return ""
    try:
        record = target.run.read_record()
    except ModelFileError:  # the evaluation has its figures without the record
        return ""
    if record.config.model.weights != "none":
        return ""
    return few_images_note(
        record.config.data.data,
        images=record.data.images.train,
        classes=len(record.classes),
        image_size=record.preprocessing.image_size,
    )
