"""The preparation of a training in four stages: images, network, arithmetic and batches; every check of the settings is here."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cnnkit.api.extensions.augmentations import extra_augmentations
from cnnkit.api.extensions.training import TrainingExtensions, load_training_extensions
from cnnkit.api.training.arithmetic import ProbeBatch, choose_arithmetic, choose_compilation, choose_larger
from cnnkit.api.training.auto import AutoSettings
from cnnkit.api.training.batches import TrainingBatches, make_batches
from cnnkit.api.training.data_dependent_init import HeadFit, start_from_images
from cnnkit.api.training.images import TrainingImages, load_images, open_training_source
from cnnkit.api.training.job import TrainingJob, refused_faults
from cnnkit.api.training.model_header import data_facts, versions
from cnnkit.api.training.network import Network, TrialBatch, build_network, check_batch, check_start_size, draw_up
from cnnkit.config.recipe import with_tier
from cnnkit.config.settings import OptimConfig, OptimSettings, TrainConfig
from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.data.batches import Batches, class_weights
from cnnkit.data.source import TRAIN
from cnnkit.data.sources.folder import check_outside
from cnnkit.doctor.few_images import few_images_note
from cnnkit.engine.fit import MIN_PART_IMAGES, initial_state
from cnnkit.engine.lr_range import MIN_RATE
from cnnkit.engine.ranks import ONE, Ranks
from cnnkit.engine.runtime import choose_device, start_gpu
from cnnkit.engine.state import share_weights
from cnnkit.errors import ConfigError, DataError
from cnnkit.files import check_writable
from cnnkit.model.file import ModelHeader
from cnnkit.run_dir import runs_folder
from cnnkit.run_dir.record import RecordedExtension
from cnnkit.trackers.following import Followers

if TYPE_CHECKING:
    import torch
    from torch import nn

    from cnnkit.config.tiers import Tier
    from cnnkit.data.dataset import Dataset
    from cnnkit.data.progress import Progress
    from cnnkit.data.source import Source
    from cnnkit.engine.runtime import Runtime


@refused_faults()
def prepare(
    config: TrainConfig,
    *,
    source: Source | None = None,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
    runtime: Runtime | None = None,
    dry_run: bool = False,
    fit_head: bool | None = None,
    ranks: Ranks = ONE,
) -> TrainingJob:
    """Check the settings, decode the data, build the network and choose the arithmetic; return a job that is ready to start.

    `source` replaces the source that `config` names. `dataset` holds the images of that source from another job, perhaps thinned, or
    from `cnnkit.data.prefetch`. `progress(done, total)` follows the scan. `runtime` replaces the probe (a resumed run). A dry run
    searches no learning rate and writes nothing. `fit_head` says whether a new last layer is fitted; by default a dry run fits none.
    Several `ranks` prepare together: rank 0 makes every choice. Raises `CnnkitError` for settings or data that would fail or give no
    valid training.
    """
    followers = Followers.named(config.run.log if ranks.is_first else ())
    _check_places(config, ranks, given=runtime, dry_run=dry_run)
    stages = _choose_tier(config, source, dataset, runtime, progress, ranks)
    config, images, network, runtime = stages.config, stages.images, stages.network, stages.runtime
    seed, auto = config.run.seed, AutoSettings(config.optim, ranks=ranks)
    module = runtime.prepare(network.module)
    check_start_size(module, config.model.arch, images.preprocessing, len(images.classes), config.optim.start_size)
    custom = stages.extensions.custom(len(images.classes), runtime.device)
    batch_size = auto.batch_size(module, runtime, images.shape, classes=len(images.classes), images=images.count(TRAIN), custom=custom)
    batches = _batches(config, images, runtime.device, batch_size, stages.extra, ranks)
    fit = _head_fit(config, images, batches, runtime, progress) if (not dry_run if fit_head is None else fit_head) else None
    start = ranks.agreed(lambda: start_from_images(module, network.report, batches, len(images.classes), fit))
    share_weights(ranks, module)
    auto.spend(start.figures.seconds if start.figures else 0.0, "the fit of the last layer")
    header = _header(config, images, network, stages.extensions)
    lr = config.optim.lr
    if not dry_run:
        lr = auto.lr(module, batches.train, runtime, class_weights=batches.class_weights, seed=seed, progress=progress, custom=custom)
    runtime = _compile_if_worth(stages, auto, module, batches.train, lr, dry_run=dry_run, ranks=ranks)
    settings = auto.settings(batch_size=batch_size, lr=lr)
    optim = _engine_settings(settings, batch_size)
    notes = (_runs_folder_note(config), *stages.notes, *images.notes, *network.notes, start.note, *auto.notes)
    return TrainingJob(
        config=config.model_copy(update={"optim": settings, "larger": ()}),
        optim=optim,
        dataset=images.dataset if ranks.is_first else images.dataset.without_samples(),
        model=module,
        header=header,
        runtime=runtime,
        batches=batches.train,
        val_batches=batches.val,
        state=replace(initial_state(module, optim, config.stop, custom), start=start.figures),
        augmentation=images.augmentation,
        weights=batches.class_weights,
        head=network.head,
        notes=tuple(note for note in (*notes, _few_images_note(config, images)) if note),
        followers=followers,
        custom=custom,
        extensions=tuple(RecordedExtension.model_validate(each.facts()) for each in stages.extensions),
        ranks=ranks,
    )


def _check_places(config: TrainConfig, ranks: Ranks, *, given: Runtime | None, dry_run: bool) -> None:
    """Refuse a missing device, a storage that ranks cannot share, and a folder of runs that cannot be used, before reading images."""
    if given is None:
        start_gpu(choose_device(config.run.device))
        check_outside(config.run.out or Path(), config.data.data if config.run.out else "")
    if ranks.local_world > 1 and config.data.cache in {"ram", "none"}:
        raise ConfigError(
            f"--cache {config.data.cache}: each of the {ranks.local_world} ranks on this machine would decode all images; "
            "use --cache disk, which they share"
        )
    if not dry_run and ranks.is_first:
        check_writable(config.run.out or runs_folder())


def _batches(
    config: TrainConfig,
    images: TrainingImages,
    device: torch.device,
    batch_size: int,
    extra: tuple[ExtraAugmentation, ...],
    ranks: Ranks,
    *,
    keep_on_gpu: bool = True,
) -> TrainingBatches:
    """Return the batches of the training on `device`; raises `ConfigError` if a part of a batch is too small for a rank."""
    seed, balance = config.run.seed, config.data.balance
    batches = make_batches(
        images, device, batch_size=batch_size, balance=balance, seed=seed, extra=extra, keep_on_gpu=keep_on_gpu, ranks=ranks
    )
    _check_parts(batches.train, batch_size, ranks)
    return batches


def _check_parts(train: Batches, batch_size: int, ranks: Ranks) -> None:
    """Raise `ConfigError` if a batch leaves a rank with fewer than `MIN_PART_IMAGES` images."""
    if ranks.several and train.images // train.steps // ranks.world < MIN_PART_IMAGES:
        raise ConfigError(
            f"--batch-size (={batch_size}): the {train.images} training images have batches of {train.images // train.steps}, "
            f"of which each of {ranks.world} ranks needs at least {MIN_PART_IMAGES}; use fewer ranks or a larger --batch-size"
        )


def _runs_folder_note(config: TrainConfig) -> str:
    """Return a note if the default folder of runs lies inside the data, else an empty text."""
    data, runs = config.data.data, runs_folder()
    inside = not config.run.out and Path(data).is_dir() and runs.resolve().is_relative_to(Path(data).resolve())
    return f"the runs are in {runs}, inside the data, where they count as no class; for another folder add --out FOLDER" if inside else ""


def _few_images_note(config: TrainConfig, images: TrainingImages) -> str:
    """Return a note if a training from scratch has few images, else an empty text."""
    if config.model.weights != "none":
        return ""
    size = images.preprocessing.image_size
    return few_images_note(config.data.data, images=images.count(TRAIN), classes=len(images.classes), image_size=size)


class _Stages(NamedTuple):
    """The results of the first three stages, with the settings of the tier that the budget allows."""

    config: TrainConfig
    images: TrainingImages
    network: Network
    runtime: Runtime
    extensions: TrainingExtensions
    extra: tuple[ExtraAugmentation, ...]
    notes: list[str]
    is_recorded: bool  # of the runtime, which a resumed run keeps


def _choose_tier(
    config: TrainConfig, source: Source | None, dataset: Dataset | None, given: Runtime | None, progress: Progress | None, ranks: Ranks
) -> _Stages:
    """Repeat the stages images, network and arithmetic until no larger tier fits the budget."""
    notes: list[str] = []
    while True:
        with ranks.machine_first():  # it downloads and decodes what the other ranks of its machine then find
            source = source or open_training_source(config.data, progress)
            blueprint, extensions = draw_up(config.model), load_training_extensions(config)
            extra = extra_augmentations(extensions.augmentations, config.model.channels)
            images = load_images(config, blueprint, source=source, dataset=dataset, progress=progress)
            _check_storage(images, ranks)
        _check_same_images(images, ranks)
        network = build_network(config, blueprint, images.classes, images.preprocessing, mirrors="h" in images.augmentation.flip)
        batch_size = AutoSettings(config.optim).presumed_batch_size(images.count(TRAIN))
        if given is None and ranks.is_first:
            trial = _trial_batch(config, images, batch_size, extra, ranks)
            check_batch(config, blueprint, network, images.preprocessing, len(images.classes), trial)
        probe = ProbeBatch(images.shape, -(-batch_size // ranks.world), images.dataset.store.folder)
        runtime, tier, note = _agreed_arithmetic(config, network, given, probe, ranks)
        notes.append(note)
        if tier is None:
            return _Stages(config, images, network, runtime, extensions, extra, notes, is_recorded=given is not None)
        config = with_tier(config, tier)
        dataset = images.dataset if tier.keeps_canvases else None


def _compile_if_worth(
    stages: _Stages, auto: AutoSettings, module: nn.Module, train: Batches, lr: float | Literal["auto"], *, dry_run: bool, ranks: Ranks
) -> Runtime:
    """Return the runtime, which compiles the network if ``--compile`` asks for it and if that saves more time than it takes.

    A dry run compiles without a trial. A recorded runtime stays as it is.
    """
    config, runtime = stages.config.optim, stages.runtime
    if not config.compile or stages.is_recorded:
        return runtime
    if dry_run:
        return runtime.with_compilation()
    settings = _engine_settings(config.model_copy(update={"lr": lr}), train.batch_size)
    folder = stages.images.dataset.store.folder
    chosen, note, seconds = ranks.agreed(lambda: choose_compilation(stages.config, settings, module, runtime, train, folder))
    auto.notes.append(note)
    auto.spend(seconds, "the trial of --compile")
    return chosen


def _agreed_arithmetic(
    config: TrainConfig, network: Network, given: Runtime | None, probe: ProbeBatch, ranks: Ranks
) -> tuple[Runtime, Tier | None, str]:
    """Return the runtime of all ranks, the larger tier that the budget allows, and a note; rank 0 measures alone."""

    def choose() -> tuple[Runtime, Tier | None, str]:
        runtime = given or choose_arithmetic(config, network.module, probe)
        return runtime, *choose_larger(config, network.module, runtime, probe, ranks.world)

    return ranks.agreed(choose)


def _check_storage(images: TrainingImages, ranks: Ranks) -> None:
    """Raise `ConfigError` if the decoded images are not on the disk, where the other ranks of this machine find them."""
    if ranks.local_world > 1 and images.dataset.store.folder is None:
        raise ConfigError(
            f"the decoded images of {images.source.name} are not in the cache on the disk, which the {ranks.local_world} ranks on this "
            "machine share; free some space there, or point CNNKIT_CACHE to another disk"
        )


def _check_same_images(images: TrainingImages, ranks: Ranks) -> None:
    """Raise `DataError` if this rank has other images than rank 0, as on a machine with another copy of the data."""
    found = images.dataset.fingerprint if ranks.several else ""
    if ranks.agreed(lambda: found) != found:
        raise DataError(
            f"{images.source.name}: rank {ranks.rank} on {ranks.machine} finds other images, labels or splits there than rank 0; "
            "give all machines the same data"
        )


def _trial_batch(
    config: TrainConfig, images: TrainingImages, batch_size: int, extra: tuple[ExtraAugmentation, ...], ranks: Ranks
) -> TrialBatch:
    """Return the first batch of the training, or the part of rank 0 in it, on the device that `config` names."""
    train = _batches(config, images, choose_device(config.run.device), batch_size, extra, ranks, keep_on_gpu=False).train
    first, _ = next(train.epoch(1))
    return TrialBatch(first, train.images // train.steps // ranks.world, train.images)


def _head_fit(
    config: TrainConfig, images: TrainingImages, batches: TrainingBatches, runtime: Runtime, progress: Progress | None
) -> HeadFit:
    """Return the settings of the fit of a new last layer; a balanced sampler asks for the same weights of the classes as the loss."""
    balanced = config.data.balance != "none"
    weights = class_weights(batches.plain.labels, images.classes).to(runtime.device) if balanced else None
    return HeadFit(config.optim.budget, runtime, weights, progress)


def _header(config: TrainConfig, images: TrainingImages, network: Network, extensions: TrainingExtensions) -> ModelHeader:
    """Return the header of the model files, without the figures of an epoch."""
    return ModelHeader(
        arch=config.model.arch,
        options=network.options,
        classes=images.classes,
        preprocessing=images.preprocessing,
        package=network.package,
        versions=versions(network.package, *(each.entry.package for each in extensions)),
        training={
            "recipe": config.recipe,
            "seed": config.run.seed,
            "augmentation": asdict(images.augmentation),
            "data": data_facts(images.source.name, images.dataset),
            **({"extensions": facts} if (facts := [each.facts() for each in extensions]) else {}),
        },
    )


def _engine_settings(settings: OptimSettings, batch_size: int) -> OptimConfig:
    """Return the settings of the engine; a learning rate that is still auto (a dry run) becomes the first rate of a range test."""
    return settings.settled(batch_size=batch_size, lr=MIN_RATE if settings.lr == "auto" else settings.lr)
