"""A training from configuration to run directory: everything that can be refused is refused in `prepare`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from cnnkit import run_dir
from cnnkit.api.training.affording import choose_larger
from cnnkit.api.training.auto import AutoSettings
from cnnkit.api.training.calibrating import calibrated
from cnnkit.api.training.data_dependent_init import start_from_images
from cnnkit.api.training.model_header import Fingerprints
from cnnkit.api.training.network import build, check_start_size, choose_geometry, draw_up
from cnnkit.api.training.probe_cache import remembering
from cnnkit.api.training.provenance import data_facts, source_location, versions
from cnnkit.config.recipe import enlarged
from cnnkit.config.settings import OptimConfig, TrainConfig
from cnnkit.data.augment.augment import Augmentation, resolve_augmentation
from cnnkit.data.batches import Batches, class_weights, normalised_by
from cnnkit.data.dataset import Dataset, load_dataset, select_classes, typical_side, with_canvases
from cnnkit.data.source import SPLITS, TRAIN, VAL, Source, open_source
from cnnkit.data.store.scan import Progress
from cnnkit.engine.batch_source import BatchSource
from cnnkit.engine.fit import EpochResult, TrainingState, fit, start
from cnnkit.engine.lr_range import LOW
from cnnkit.engine.probe import choose_runtime
from cnnkit.engine.runtime import Runtime, choose_device, keep_freed_memory
from cnnkit.engine.state import save_state
from cnnkit.errors import DataError, TrainingStoppedError
from cnnkit.model.file import ModelHeader, check_class_names, save_model
from cnnkit.model.head import head_parameters
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.torch_classifier import inference_batch
from cnnkit.run_dir import RunDir
from cnnkit.trackers.following import Followers

Watch = Callable[[BatchSource], BatchSource]


@dataclass
class TrainingJob:
    """A training that is ready to start: nothing is written before `begin`, nothing learned before `epochs`.

    `config` has numbers where ``auto`` stood, and `optim` is that section of it for the engine. Only in a dry run ``config.optim.lr``
    may still be auto; ``optim.lr`` is then that with which a range test begins.
    """

    config: TrainConfig
    optim: OptimConfig
    dataset: Dataset
    model: nn.Module
    header: ModelHeader
    runtime: Runtime
    batches: Batches
    val_batches: Batches
    state: TrainingState
    augmentation: Augmentation
    weights: Tensor | None
    head: frozenset[str]
    notes: tuple[str, ...]
    followers: Followers
    run: RunDir | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Images per split."""
        return {split: len(self.dataset.of(split)) for split in SPLITS}

    def begin(self) -> RunDir:
        """Make the run directory and write config.json and split.csv into it."""
        self.run = run_dir.create(self.config.run.out or run_dir.runs_folder(), self.config.model.arch)
        run_dir.write_text(self.run.split_file, self.dataset.split_text)
        self.record("running")
        return self.run

    def epochs(self, watch: Watch = lambda batches: batches) -> Iterator[EpochResult]:
        """Train, yielding every epoch after its history row, its state and, if it is the best so far, the model are saved.

        `watch` wraps the training batches, for a progress bar. Whatever ends the training, config.json says how.
        """
        run = self.run or self.begin()
        loop = fit(
            self.model,
            watch(self.batches),
            self.val_batches,
            self.optim,
            self.runtime,
            self.state,
            num_classes=len(self.header.classes),
            seed=self.config.run.seed,
            class_weights=self.weights,
            head=self.head,
        )
        fingerprints = Fingerprints(self.val_batches)
        status = "stopped"
        try:
            self.followers.start(run.read_config(), run.path, self.state.epoch)
            for epoch in loop:
                if epoch.is_best:
                    facts = {"epoch": epoch.epoch, "monitor": self.config.stop.monitor, "value": self.state.stopping.best_value}
                    header = self.header.model_copy(update={"training": {**self.header.training, **facts}})
                    assert self.state.validation is not None  # noqa: S101 (by it the epoch is the best)
                    header = fingerprints.added(calibrated(header, self.state.validation), self.state.validation)
                    save_model(run.best, self.state.result(self.model), header)
                run.append_history({column: getattr(epoch, column) for column in run_dir.HISTORY})
                save_state(run.last, self.model, self.state)
                self.followers.epoch(epoch)
                yield epoch
            status = "finished" if self.state.stopping.best_epoch else "failed"
        except DataError as error:  # an image was changed or removed while it was still needed (--cache none)
            raise TrainingStoppedError(f"{error}\nthe epochs so far are kept; once the image is back: cnnkit resume {run.path}") from None
        finally:
            self.record(status)  # first: a server may take long to end, and be interrupted
            if self.followers.end(status):
                self.record(status)

    def record(self, status: str) -> None:
        """Write config.json: everything resolved, and how far the training is (`status`)."""
        assert self.run is not None  # noqa: S101 (begin has made it)
        stopping = self.state.stopping
        self.run.write_config(
            {
                "status": status,
                "command": sys.argv,
                "config": self.config.model_dump(mode="json"),
                "classes": list(self.header.classes),
                "arch": {"name": self.header.arch, "options": self.header.options},
                "preprocessing": self.header.preprocessing.model_dump(mode="json"),
                "augmentation": asdict(self.augmentation),
                "runtime": self.runtime.facts(),
                "versions": self.header.versions,
                "data": {"location": source_location(self.config.data.data), **self.header.training["data"]},
                "unreadable": [{"path": path, "error": error} for path, error in self.dataset.bad],
                "notes": [*self.notes, *self.followers.notes],
                "result": {
                    "epochs": self.state.epoch,
                    "best_epoch": stopping.best_epoch,
                    "monitor": stopping.monitor,
                    "best_value": stopping.best_value if stopping.best_epoch else None,
                    "stopped_early": stopping.exhausted,
                },
            }
        )


def prepare(
    config: TrainConfig,
    *,
    source: Source | None = None,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
    runtime: Runtime | None = None,
    dry_run: bool = False,
) -> TrainingJob:
    """Check everything, decode the data, build the network and choose the runtime; returns a job that can start.

    `source` is opened already (arrays), else `config` names it; a `dataset` is of that source: another job's, perhaps thinned, or
    what the cache knew of it (`cnnkit.data.prefetch`).
    `progress(done, total)` follows the scan. `runtime` is taken as given instead of probed (a resumed run). With `dry_run` no
    learning rate is searched for.
    Raises `CnnkitError` for whatever would make the training fail or mean nothing.
    """
    followers = Followers.named(config.run.log)
    device = runtime.device if runtime else choose_device(config.run.device)
    if not dry_run:
        run_dir.check_writable(config.run.out or run_dir.runs_folder())
    source = source or open_source(config.data.data, download=config.data.download, group_by=config.data.group_by)
    records, _ = select_classes(source, config.data.classes)
    blueprint = draw_up(config.model)
    geometry, size_notes = choose_geometry(blueprint, config.model, typical_side(source, records))
    known = dataset and with_canvases(dataset, geometry)
    dataset = known or load_dataset(source, config.data, geometry, config.run.seed, progress)
    keep_freed_memory()  # from here on: what reading the images took goes back to the system
    check_class_names(dataset.classes)
    augmentation, flip_note = resolve_augmentation(config.augment, dataset.classes)

    rows, labels = dataset.arrays(TRAIN)
    val_rows, val_labels = dataset.arrays(VAL)
    if not len(rows) or not len(val_rows):
        raise DataError(f"{source.name}: no images to {'train on' if not len(rows) else 'validate with'}; see --split")
    canvases = dataset.store.canvases
    assert canvases is not None  # noqa: S101 (a geometry was given)
    if blueprint.preprocessing is None:
        geometry = normalised_by(dataset.store.folder, geometry, canvases, rows)

    torch.manual_seed(config.run.seed)
    if torch.are_deterministic_algorithms_enabled() != config.run.deterministic:  # to be told imports torch's compiler, a second or two
        torch.use_deterministic_algorithms(config.run.deterministic)
    built = build(blueprint, dataset.classes, geometry, mirrors="h" in augmentation.flip)
    head = frozenset(head_parameters(built.module, len(dataset.classes))) if config.optim.freeze_epochs else frozenset[str]()
    shape = (geometry.channels, geometry.image_size, geometry.image_size)
    auto = AutoSettings(config.optim)
    given = runtime
    runtime = runtime or choose_runtime(
        built.module,
        device=device,
        precision=config.optim.precision,
        image_shape=shape,
        batch_size=auto.presumed_batch_size(len(rows)),
        deterministic=config.run.deterministic,
        compiled=config.optim.compile,
        remember=remembering(dataset.store.folder),
    )
    larger, afford_note = choose_larger(
        config, built.module, runtime, image_shape=shape, batch_size=auto.presumed_batch_size(len(rows)), folder=dataset.store.folder
    )
    if larger:
        same = dataset if larger.model.keys() <= {"set"} else None  # another architecture or image size wants other canvases
        job = prepare(enlarged(config, larger), source=source, dataset=same, progress=progress, runtime=given, dry_run=dry_run)
        return replace(job, notes=(afford_note, *job.notes))
    module = runtime.prepare(built.module)
    check_start_size(module, config.model.arch, geometry, config.optim.start_size)
    preprocess = Preprocess(geometry).to(device)
    val_batches = Batches(canvases, val_rows, val_labels, inference_batch(geometry.image_size, device), preprocess, device)
    untouched = replace(val_batches, rows=rows, labels=labels)
    batches = replace(
        untouched,
        batch_size=auto.batch_size(module, runtime, shape, classes=len(dataset.classes), images=len(rows)),
        seed=config.run.seed,
        augmentation=augmentation,
        balanced=config.data.balance == "sampler",
        classes=len(dataset.classes),
    )
    head_note = start_from_images(module, built.report, untouched, len(dataset.classes))
    header = ModelHeader(
        arch=config.model.arch,
        options=built.options,
        classes=dataset.classes,
        preprocessing=geometry,
        versions=versions(blueprint.entry.package),
        training={
            "recipe": config.recipe,
            "seed": config.run.seed,
            "augmentation": asdict(augmentation),
            "data": data_facts(source.name, dataset),
        },
    )
    weights = class_weights(labels, dataset.classes) if config.data.balance == "weights" else None
    lr = config.optim.lr
    if not dry_run:
        lr = auto.lr(module, batches, runtime, class_weights=weights, seed=config.run.seed, progress=progress)
    settings = auto.settings(batch_size=batches.batch_size, lr=lr)
    optim = settings.settled(batch_size=batches.batch_size, lr=LOW if lr == "auto" else lr)
    return TrainingJob(
        config=config.model_copy(update={"optim": settings, "larger": ()}),
        optim=optim,
        dataset=dataset,
        model=module,
        header=header,
        runtime=runtime,
        batches=batches,
        val_batches=val_batches,
        state=start(module, optim, config.stop),
        augmentation=augmentation,
        weights=weights,
        head=head,
        notes=tuple(note for note in (afford_note, *dataset.notes, *size_notes, flip_note, *built.notes, head_note, *auto.notes) if note),
        followers=followers,
    )
