"""Training on shards and parquet files beside the folder of the same images."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cnnkit.api.inference.samples import run_samples
from cnnkit.api.training.prepare import prepare
from cnnkit.api.training.resume import resume
from cnnkit.data.shards import named_addresses, remote
from cnnkit.data.source import open_source
from cnnkit.data.store.cache import blocks_folder
from cnnkit.errors import DataError, TrainingStoppedError, shell_word


def write_shards(folder: Path, shards: Path) -> str:
    """Write the images of a folder, in their order, into shards of ten, and return the pattern of their names."""
    shards.mkdir()
    source = open_source(str(folder))
    for number in range(0, len(source.records), 10):
        with tarfile.open(shards / f"{number // 10:02d}.tar", "w") as archive:
            for record in source.records[number : number + 10]:
                stored = source.read(record)
                assert isinstance(stored, bytes)
                for name, content in ((record.path, stored), (f"{record.path.rpartition('.')[0]}.cls", record.label.encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return f"{shards}/{{00..{(len(source.records) - 1) // 10:02d}}}.tar"


def write_parquet(folder: Path, file: Path) -> str:
    """Write the images of a folder, in their order, into a parquet file with row groups of ten."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    source = open_source(str(folder))
    images = [{"bytes": source.read(record), "path": record.path} for record in source.records]
    table = arrow.table({"image": images, "label": [record.label for record in source.records]})
    parquet.write_table(table, file, row_group_size=10)
    return str(file)


def trained_weights(job) -> dict[str, torch.Tensor]:
    list(job.epochs())
    return job.model.state_dict()


@pytest.mark.parametrize("write", [write_shards, write_parquet])
def test_the_same_images_give_the_same_split_and_weights(
    image_folder, small_config, tmp_path: Path, write: Callable[[Path, Path], str]
) -> None:
    folder = image_folder(images=12)
    packed = write(folder, tmp_path / "packed.parquet")
    one, other = (prepare(small_config(data, epochs=1, seed=7)) for data in (folder, packed))
    assert one.dataset.split_csv == other.dataset.split_csv
    assert one.dataset.fingerprint == other.dataset.fingerprint
    expected, found = trained_weights(one), trained_weights(other)
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_a_training_that_loses_its_address_is_kept_and_goes_on(
    image_folder, small_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = pytest.importorskip("fsspec").filesystem("memory")
    pattern = write_shards(image_folder(images=12), tmp_path / "shards")
    for file in Path(pattern).parent.iterdir():
        system.pipe_file(f"/lost/{file.name}", file.read_bytes())
    settings = {"epochs": 3, "patience": 0, "seed": 7, "cache": "none", "workers": 1}
    address = f"memory://lost/{pattern.rpartition('/')[2]}"
    expected = trained_weights(prepare(small_config(address, **settings)))
    job = prepare(small_config(address, **settings))
    epochs = job.epochs()
    next(epochs)
    monkeypatch.setattr(remote, "READING_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(type(system), "cat_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("no route")))
        remote._recent.clear()
        shutil.rmtree(blocks_folder())
        with pytest.raises(TrainingStoppedError) as lost:
            list(epochs)
    assert job.run is not None
    fault, way = str(lost.value).splitlines()
    assert re.fullmatch(r"memory://lost/\d\d\.tar: cannot be read any more: no route", fault)
    command = f"cnnkit resume {shell_word(str(job.run.path))}"
    assert way == f"the epochs up to the last saved state are kept; wait until the address can be read, then type: {command}"
    found = trained_weights(resume(job.run.path))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    system.rm("/", recursive=True)


def test_a_run_from_someone_else_chooses_no_address(image_folder, small_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = pytest.importorskip("fsspec").filesystem("memory")
    pattern = write_shards(image_folder(images=12), tmp_path / "shards")
    for file in Path(pattern).parent.iterdir():
        system.pipe_file(f"/own/{file.name}", file.read_bytes())
    job = prepare(small_config(f"memory://own/{pattern.rpartition('/')[2]}", epochs=2, patience=0, seed=7))
    epochs = job.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue] (a generator)
    assert job.run is not None
    run = job.run
    run_samples(run, None)
    monkeypatch.setattr(named_addresses, "_named", set[str]())
    monkeypatch.setenv("CNNKIT_CACHE", str(tmp_path / "another machine"))
    with monkeypatch.context() as patched:
        patched.setattr(type(system), "info", lambda *_, **__: pytest.fail("the address was contacted"))
        for use in (lambda: run_samples(run, None), lambda: resume(run.path)):
            with pytest.raises(DataError, match=r"its images are at memory://own/.*, an address that no command on this machine has named"):
                use()
    assert resume(run.path, data=job.config.data.data).state.ended == 1
    system.rm("/", recursive=True)


def test_a_stopped_training_on_shards_ends_as_one_that_ran_through(image_folder, small_config, tmp_path: Path, monkeypatch) -> None:
    pattern = write_shards(image_folder(images=12), tmp_path / "shards")
    monkeypatch.chdir(tmp_path)
    relative = pattern.removeprefix(f"{tmp_path}/")
    expected = trained_weights(prepare(small_config(relative, epochs=2, patience=0, seed=7)))
    stopped = prepare(small_config(relative, epochs=2, patience=0, seed=7))
    epochs = stopped.epochs()
    next(epochs)
    epochs.close()  # pyright: ignore[reportAttributeAccessIssue] (a generator)
    assert stopped.run is not None
    run = stopped.run.path.resolve()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = trained_weights(resume(run))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
