from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest
import torch

import cnnkit
from cnnkit.api.training import arithmetic, auto
from cnnkit.api.training.prepare import prepare
from cnnkit.data.source import open_source
from cnnkit.engine.lr_range import MIN_RATE
from cnnkit.engine.runtime import Runtime
from cnnkit.errors import CnnkitError, ConfigError, DataError, PluginError


def test_the_model_file_holds_the_facts_of_its_training(trained):
    header = cnnkit.load_model(trained.run / "best.safetensors").header
    assert header.arch == "custom-cnn"
    assert header.options["width"] == 8
    assert header.versions["cnnkit"] == metadata.version("cnnkit")
    assert header.training["data"]["images"] == {"train": 42, "val": 9, "test": 9}
    assert (header.training["augmentation"]["flip"], header.training["augmentation"]["shift"]) == ("h", 0.1)
    assert "runs" not in json.dumps(header.training)  # no path of this machine


def test_the_job_holds_the_results_of_all_stages(image_folder, small_config):
    config = small_config(image_folder(images=12), seed=5, epochs=3, channels=1)
    made = prepare(config)
    assert made.config == config
    assert (made.optim.epochs, made.optim.batch_size) == (3, 16)
    assert made.counts == {"train": 24, "val": 6, "test": 6}
    assert (made.header.arch, made.header.options["width"], made.header.classes) == ("custom-cnn", 8, ("ants", "bees", "wasps"))
    assert (made.header.training["recipe"], made.header.training["seed"]) == ("default", 5)
    assert made.header.training["data"]["sha256"] == made.dataset.fingerprint
    assert (made.header.preprocessing.channels, made.batches.seed, made.batches.images) == (1, 5, 24)
    assert made.runtime == Runtime(made.runtime.device, "fp32", reason="--precision")
    assert made.notes == ("images are 32 px (median of the shorter side): --image-size 32",)
    assert made.state.epoch == 0
    assert made.run is None


def test_cheap_checks_come_before_reading_images(small_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("file").write_text("x")
    with pytest.raises(PluginError, match="no tracker named 'tensorbord' is installed; did you mean 'tensorboard'"):
        prepare(small_config("nowhere", log=("tensorbord",), device="cuda", out="file"))
    with pytest.raises(ConfigError, match=r"--device cuda: torch .* finds no such device here; usable: "):
        prepare(small_config("nowhere", device="cuda", out="file"))
    with pytest.raises(ConfigError, match="--out file: cannot write there"):
        prepare(small_config("nowhere", out="file"))
    with pytest.raises(DataError, match="--data nowhere: no such file or folder"):
        prepare(small_config("nowhere", out="file"), dry_run=True)  # a dry run writes nothing


def test_runs_inside_the_data_are_refused_if_named_and_noted_if_not(image_folder, small_config, monkeypatch):
    data = image_folder(images=12)
    with pytest.raises(ConfigError, match=r"--out images/runs: lies inside the data .*; name another place, such as --out"):
        prepare(small_config(data, out="images/runs"))
    monkeypatch.chdir(data)
    made = prepare(small_config("."), dry_run=True)
    assert made.notes[0] == "the runs are in runs, inside the data, where they count as no class; for another folder add --out FOLDER"


def test_a_network_that_cannot_train_is_refused_before_any_run_exists(image_folder, small_config):
    data = image_folder(images=12)
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=r"cannot train on images of 16 px .*: --image-size 48"):
            prepare(small_config(data, arch="timm/inception_v3", set=(), image_size=16, precision="auto"), dry_run=dry_run)
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_the_trial_changes_no_number_of_the_training(image_folder, small_config, monkeypatch):
    """Dropout and BatchNorm would show it: a step of the random state, or statistics of one more batch."""
    data = image_folder(images=12)
    weights, states, rows = [], [], []
    for _ in range(2):
        job = prepare(small_config(data, epochs=2, set=("width=8", "blocks=2", "dense=32", "dropout=0.3"), seed=7))
        states.append(torch.get_rng_state())
        rows.append([(row.train_loss, row.val_loss) for row in job.epochs()])
        weights.append(job.model.state_dict())
        for trial in ("forward_failure", "learning_failure"):  # the second training has no trial
            monkeypatch.setattr(f"cnnkit.api.training.network.{trial}", lambda *_: "")
    assert torch.equal(*states)
    assert rows[0] == rows[1]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_dry_run_makes_no_folder(image_folder, small_config):
    data = image_folder(images=6)
    prepare(small_config(data), dry_run=True)
    assert not Path("runs").exists()
    prepare(small_config(data))
    assert Path("runs").is_dir()


def test_only_a_dry_run_leaves_the_rate_auto(image_folder, small_config, monkeypatch):
    monkeypatch.setattr(auto.AutoSettings, "lr", lambda *_, **__: 0.125)
    data = image_folder(images=6)
    dry, real = prepare(small_config(data, lr="auto"), dry_run=True), prepare(small_config(data, lr="auto"))
    assert (dry.config.optim.lr, dry.optim.lr) == ("auto", MIN_RATE)
    assert (real.config.optim.lr, real.optim.lr) == (0.125, 0.125)


def test_a_given_runtime_replaces_the_probe_and_the_device(image_folder, small_config, monkeypatch):
    monkeypatch.delattr(arithmetic, "choose_runtime")
    given = Runtime(torch.device("cpu"), "bf16", channels_last=True, reason="recorded")
    made = prepare(small_config(image_folder(images=6), precision="auto", device="mps"), runtime=given)
    assert made.runtime == given
    assert next(made.model.parameters()).device == given.device
    assert next(p for p in made.model.parameters() if p.ndim == 4).is_contiguous(memory_format=torch.channels_last)


def test_a_given_source_and_dataset_are_used(image_folder, small_config):
    data = image_folder(images=6)
    source = open_source(str(data))
    first = prepare(small_config(data), source=source, dry_run=True)
    again = prepare(small_config("elsewhere"), source=source, dataset=first.dataset, dry_run=True)
    assert again.dataset is first.dataset
    assert again.header.training["data"]["name"] == str(data)


def test_every_refusal_is_an_error_of_cnnkit(image_folder, small_config):
    data = image_folder(images=4)
    for flags, message in (
        ({"arch": "custom-cmm"}, "did you mean 'custom-cnn'"),
        ({"set": ("blocks=0",)}, "--set blocks=0: option .* from 1 to 8"),
        ({"classes": ("ants", "bess")}, "did you mean 'bees'"),
        ({"start_size": 32}, r"--start-size \(=32\) must be below --image-size"),
    ):
        with pytest.raises(CnnkitError, match=message):
            prepare(small_config(data, **flags), dry_run=True)
