from __future__ import annotations

from pathlib import Path

import pytest

from cnnkit.api.images.doctor import examine
from cnnkit.api.images.split import divide
from cnnkit.api.training.prepare import prepare
from cnnkit.config.settings import DataConfig, TrainConfig
from cnnkit.data import default_geometry
from cnnkit.data.default_geometry import default_geometries
from cnnkit.data.source import open_source
from cnnkit.data.sources.folder import FolderSource


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Return the list of the images that are read whole."""
    found: list[str] = []
    read = FolderSource.read
    monkeypatch.setattr(FolderSource, "read", lambda source, record: found.append(record.path) or read(source, record))
    return found


@pytest.mark.parametrize("command", ["doctor", "split"])
@pytest.mark.parametrize("size", [(40, 32), (200, 150)])
def test_a_training_decodes_nothing_after_another_command(image_folder, reads, tmp_path, monkeypatch, command, size):
    data = image_folder(["ants", "bees"], images=6, size=size)
    if command == "doctor":
        examine(data)
    else:
        divide(DataConfig(data=str(data)), out=tmp_path / "split.csv")
    monkeypatch.setattr("cnnkit.data.store.filling.DecodingPool", lambda *_, **__: pytest.fail("an image was decoded again"))
    job = prepare(TrainConfig(data=DataConfig(data=str(data))), dry_run=True)
    assert job.dataset.store.reused
    assert len(set(reads)) == 12


def test_nothing_is_made_ahead_for_many_images_or_without_a_readable_one(image_folder, monkeypatch):
    source = open_source(str(image_folder(["ants", "bees"], images=2)))
    (geometry,) = default_geometries(source, source.records)
    assert (geometry.image_size, geometry.channels) == (32, 3)
    monkeypatch.setattr(default_geometry, "MAX_BYTES_AHEAD", 4 * 3 * 128**2 - 1)
    assert default_geometries(source, source.records) == ()
    monkeypatch.setattr(default_geometry, "MAX_BYTES_AHEAD", 2**30)
    for record in source.records:
        (Path(source.name) / record.path).write_bytes(b"no image")
    assert default_geometries(source, source.records) == ()
