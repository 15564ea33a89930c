"""Reading what the cache has of many images in a process of its own, while this one imports torch.

Either takes a second or two with 60,000 images, and Python does one thing at a time in a process. Nothing is decoded, changed
or refused there: where something is missing or wrong the answer is None, and it is found again where the user can be told.
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
from cnnkit.data.rows import Rows
from cnnkit.data.source import Source, open_source

Found = tuple[Source, Dataset]
DERIVED = ("split_text", "fingerprint")  # cached properties of a dataset that its training asks for
NOTHING = np.empty(0, np.uint8)


def look_ahead(config: DataConfig, seed: int) -> Callable[[], Found | None]:
    """Begin to read; the function returned waits for the end and returns the source and the dataset, without canvases and thumbnails.

    It returns None, at once, where there is no process to be had at little cost (systems that do not fork, or a program with
    threads), where torch is there already, and where the images are in no folder or not to be kept on the disk.
    """
    if (
        sys.platform != "linux"
        or "torch" in sys.modules
        or threading.active_count() > 1
        or config.cache not in {"auto", "disk"}
        or not Path(config.data).is_dir()
    ):
        return lambda: None
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=send_found, args=(config, seed, theirs), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, of threads: numpy's, which have nothing to do
        process.start()
    theirs.close()

    def found() -> Found | None:
        try:
            source, dataset = ours.recv()
            vars(dataset).update(ours.recv())
        except EOFError:
            return None
        finally:
            ours.close()
            process.join()
        return source, dataset

    return found


def send_found(config: DataConfig, seed: int, connection: Connection) -> None:
    """Send what `look_ahead` promises through `connection`, or close it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends this process without a word, the other one speaks
    with connection, suppress(Exception):  # all that can go wrong here does so again there
        source = open_source(config.data, group_by=config.group_by)
        dataset = find_dataset(source, config, seed)
        if dataset is not None:
            store = replace(dataset.store, facts=Rows(dataset.store.facts), thumbnails=NOTHING)
            connection.send((source, replace(dataset, samples=Rows(dataset.samples), store=store)))
            connection.send({name: getattr(dataset, name) for name in DERIVED})  # made while the other process takes over the rows
