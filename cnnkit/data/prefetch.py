"""Prefetch of the dataset in a second process while this process imports torch.

See docs/benchmarks/LOG.md, "Second process for the store". `prefetch` is the only public function. It decodes nothing, changes
nothing and raises nothing. Its result is None if anything is missing or wrong: the training then meets the same error and reports it.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from cnnkit.config.settings import DataConfig
from cnnkit.data.dataset import Dataset, find_dataset
from cnnkit.data.source import Source
from cnnkit.data.sources.folder import FolderSource

SourceAndDataset = tuple[Source, Dataset]
DERIVED_PROPERTIES = ("split_csv", "fingerprint")  # cached properties of a dataset that a training needs
MAX_RECORDS = 1_000_000  # of which two processes hold a copy for a moment
NO_PICTURES = np.empty(0, np.uint8)


def prefetch(config: DataConfig, seed: int) -> Callable[[], SourceAndDataset | None]:
    """Start reading and return a function that waits for source and dataset; the dataset has no canvases, thumbnails and looks.

    The returned function returns None at once if no process is started. Conditions for a process are Linux, no threads, torch not
    imported yet, and images in a folder whose cache is on disk.
    """
    if (
        sys.platform != "linux"
        or "torch" in sys.modules
        or threading.active_count() > 1
        or config.cache not in {"auto", "disk"}
        or config.exclude
        or not Path(config.data).is_dir()
    ):
        return lambda: None
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(config, seed, theirs), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of numpy's threads, which are idle
        process.start()
    theirs.close()

    def receive() -> SourceAndDataset | None:
        try:
            source, dataset = ours.recv()
            vars(dataset).update(ours.recv())
        except EOFError:
            return None
        finally:
            ours.close()
            process.join()
        return source, dataset

    return receive


def _send(config: DataConfig, seed: int, connection: Connection) -> None:
    """Send source, dataset and its derived properties through `connection`; only close it if anything fails."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this process silently; the parent process reports it
    with connection, suppress(Exception):  # the training meets the same error and reports it
        source = FolderSource(Path(config.data))
        dataset = find_dataset(source, config, seed) if len(source.records) <= MAX_RECORDS else None
        if dataset is not None:
            store = replace(dataset.store, thumbnails=NO_PICTURES, looks=NO_PICTURES)
            connection.send((source, replace(dataset, store=store)))
            connection.send({name: getattr(dataset, name) for name in DERIVED_PROPERTIES})  # computed while the receiver unpickles
