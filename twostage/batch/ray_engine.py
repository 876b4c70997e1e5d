"""``twostage analyze --engine ray``: the same rows, made by the processes of a Ray cluster.

Ray Data hands names of images to actors, each of which loads both stages once, reads and analyses
the images, and gives back rows; others write these to Parquet files. Names travel, not bytes: so
what is done already is not read again, archives are read in place, and a file that cannot be read
is a failure of its own (``ray.data.read_binary_files`` ends the whole run there).
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from faces.command import UserError
from faces.paths import ImageError
from faces.types import ImageResult
from twostage.batch import columns
from twostage.batch.progress import Progress
from twostage.batch.ray_output import RayOutput
from twostage.batch.resume import Entry
from twostage.batch.sources import Source
from twostage.batch.tasks import Loader, Threshold, analyze_here, make_tasks, usable_cores

BLOCK_IMAGES = 32
"""Images that go to an actor at once; an actor that is lost loses no more."""

ROWS_PER_FILE = 2000
"""A file is written when it has so many rows, or at the end."""

OBJECT_STORE_BYTES = 300 << 20
"""Of a Ray that is started here; only names and rows go through it."""

NO_CORE = {"num_cpus": 0}
"""Naming images and writing rows wait for no core, since the actors may hold all of them …"""

SIDE_TASKS = 2
"""… and so many of them run at once, in processes of their own."""


@dataclass(frozen=True)
class Cluster:
    """Where and how wide to run.

    Attributes:
        address: of a running Ray, ``auto`` for the one here; None starts one on this machine.
        workers: number of actors; None lets Ray choose, up to one for each core, or GPU share.
        gpus_per_worker: 1, or a part of one; 0 for none.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float = 0.0


def import_ray() -> Any:
    """Import Ray with Ray Data; it reports no usage.

    Raises:
        UserError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise UserError(
            f"--engine ray needs Ray ({error}); run: make setup EXTRAS=cluster"
        ) from error
    return ray


class Analyzer:
    """An actor: loads both stages once, then turns names of images into rows.

    Args:
        loader: loads both stages.
        threshold: from which probability on an emotion is a label.
        ledger: handle of the ``Ledger``.
    """

    def __init__(self, loader: Loader, threshold: Threshold, ledger: Any) -> None:
        self._pipeline = loader()
        self._threshold = threshold
        self._ledger = ledger

    def __call__(self, block: Any) -> Any:
        """Return the table, see ``columns.schema``, of a ``pyarrow.Table`` of ``SourceBlocks``."""
        import ray

        names = block["source"].to_pylist()
        items = [pickle.loads(item) for item in block["item"].to_pylist()]
        if ray.get(self._ledger.begin.remote(names[0])) == 1:
            entries = self._analyze(items)
        else:  # a process ended over this block before, perhaps because of one of its images
            entries = [entry for item in items for entry in self._alone(item)]
        failed = [(e.source, e.cause) for e in entries if isinstance(e, ImageError)]
        faces = sum(len(e.faces) for e in entries if isinstance(e, ImageResult))
        ray.get(self._ledger.end.remote(names[0], len(entries), faces, failed))
        rows = (row for entry in entries for row in columns.rows_of(entry, self._threshold))
        return columns.table_of(rows)

    def _analyze(self, items: Sequence[Source | ImageError]) -> list[Entry]:
        outcomes = analyze_here(self._pipeline, make_tasks(items))
        return [entry for outcome in outcomes for entry in outcome.entries]

    def _alone(self, item: Source | ImageError) -> list[Entry]:
        import ray

        if isinstance(item, ImageError):
            return [item]
        key = ("image", item.name)
        if ray.get(self._ledger.begin.remote(key)) > 2:
            return [ImageError(item.name, "the processes that analysed it ended, twice")]
        entries = self._analyze([item])
        ray.get(self._ledger.survived.remote(key))
        return entries


class Ledger:
    """An actor beside the driver: counts what is done, and what was begun and not survived."""

    def __init__(self) -> None:
        self._begun: Counter[Hashable] = Counter()
        self._done: set[Hashable] = set()
        self._news = News()

    def begin(self, key: Hashable) -> int:
        """Return how often this was begun, this time included."""
        self._begun[key] += 1
        return self._begun[key]

    def survived(self, key: Hashable) -> None:
        """Forget that this was begun: no process ended over it."""
        del self._begun[key]

    def end(self, key: Hashable, images: int, faces: int, failed: list[tuple[str, str]]) -> None:
        """Count a block, the first time that it is done."""
        if key not in self._done:
            self._done.add(key)
            self._news.images += images - len(failed)
            self._news.faces += faces
            self._news.failed += failed

    def news(self) -> News:
        """Return what was done since the last call."""
        news, self._news = self._news, News()
        return news


@dataclass
class News:
    """Images analysed, their faces, and name and cause of those that failed."""

    images: int = 0
    faces: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def source_blocks(items: Iterable[Source | ImageError]) -> Any:
    """Return a ``ray.data.Datasource`` of names: ``source``, text, and ``item``, a pickle of it.

    Raises:
        UserError: an archive can only be read from start to end.
    """
    ray = import_ray()
    pa = columns.import_pyarrow()
    blocks = []
    rest = iter(items)
    while batch := list(itertools.islice(rest, BLOCK_IMAGES)):
        for item in batch:
            if isinstance(item, Source) and item.data is not None:
                raise UserError(
                    f"{item.archive}: a compressed archive, or one at an address, is read from "
                    "start to end, by one process; unpack it, or leave out --engine ray"
                )
        names = [item.source if isinstance(item, ImageError) else item.name for item in batch]
        content = {
            "source": list(map(columns.valid, names)),
            "item": list(map(pickle.dumps, batch)),
        }
        blocks.append(pa.table(content))

    class SourceBlocks(ray.data.Datasource):  # type: ignore[misc, name-defined]
        """One read task for each block of names."""

        def get_name(self) -> str:
            return "Sources"

        def estimate_inmemory_data_size(self) -> int:
            return sum(block.nbytes for block in blocks)

        def get_read_tasks(
            self, parallelism: int, per_task_row_limit: int | None = None, **others: Any
        ) -> list[Any]:
            metadata = ray.data.block.BlockMetadata
            return [
                ray.data.ReadTask(
                    partial(list, [block]),
                    metadata(block.num_rows, block.nbytes, input_files=None, exec_stats=None),
                    schema=block.schema,
                )
                for block in blocks
            ]

    return SourceBlocks()


@contextmanager
def connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to Ray, or start one here, and leave it again; yields the module."""
    ray = import_ray()
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    own = {
        "address": "local",
        # one more than there are: on resuming, Ray's filter of what is done holds one for a while
        "num_cpus": len(usable_cores()) + 1,
        "object_store_memory": OBJECT_STORE_BYTES,
        "include_dashboard": False,
    }
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            **({"address": address} if address else own),
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        place = f"--ray-address {address}" if address else "Ray"
        raise UserError(f"{place}: cannot be reached: {error}") from error
    try:
        for number, handler in handlers.items():  # Ray has put its own there
            signal.signal(number, handler)
        yield ray
    finally:
        ray.shutdown()


def analyze_on_ray(
    loader: Loader,
    sources: Iterable[Source | ImageError],
    output: RayOutput,
    cluster: Cluster,
    threshold: Threshold,
    progress: Progress,
    *,
    ordered: bool = True,
) -> None:
    """Analyse images on a cluster.

    Args:
        loader: loads both stages, in every actor.
        sources: all images; those that are done are left out by Ray.
        output: an open output.
        cluster: where.
        threshold: from which probability on an emotion is a label.
        progress: is told what is done while it runs.
        ordered: write in the order of the images.

    Raises:
        UserError: Ray cannot be reached, or gives up.
    """
    with connected(cluster) as ray:
        context = ray.data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = ordered
        context.checkpoint_config = ray.data.checkpoint.CheckpointConfig(
            id_column="source",
            checkpoint_path=str(output.checkpoint),
            delete_checkpoint_on_success=False,
        )
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        ledger = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here).remote()
        with ray.data.DataContext.current(context), _told(ledger, progress, ray):
            try:
                names = ray.data.read_datasource(
                    source_blocks(sources), concurrency=SIDE_TASKS, **NO_CORE
                )
                rows = names.map_batches(
                    Analyzer,
                    fn_constructor_args=(loader, threshold, ledger),
                    batch_size=None,
                    batch_format="pyarrow",
                    compute=_pool(ray, cluster, is_resumed=output.done > 0),
                    num_cpus=1,
                    num_gpus=cluster.gpus_per_worker or None,
                )
                rows.write_parquet(
                    str(output.part),
                    filename_provider=_file_names(ray),
                    min_rows_per_file=ROWS_PER_FILE,
                    concurrency=SIDE_TASKS,
                    ray_remote_args=NO_CORE,
                    compression="zstd",
                )
            except ray.exceptions.RayError as error:
                raise UserError(f"Ray gave up: {_cause(error)}; go on with --resume") from error


def _cause(error: Exception) -> str:
    """Return the line of a remote traceback that names the error."""
    lines = str(error).strip().splitlines()
    return next(
        (ln for ln in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", ln)), lines[-1]
    )


def _pool(ray: Any, cluster: Cluster, *, is_resumed: bool) -> Any:
    """Return the actors: as many as the user says, or one to as many as there are places.

    When a run is resumed, Ray's filter of what is done needs a core for a while; so they come one
    after the other.
    """
    if cluster.workers is None or is_resumed:
        return ray.data.ActorPoolStrategy(min_size=1, max_size=cluster.workers)
    return ray.data.ActorPoolStrategy(size=cluster.workers)


def _file_names(ray: Any) -> Any:
    """Return what names the files of a run: later runs follow earlier ones, tasks their number."""
    begun = time.time_ns()

    class FileNames(ray.data.datasource.FilenameProvider):  # type: ignore[misc]
        def get_filename_for_task(self, write_uuid: str, task_index: int) -> str:
            return f"run-{begun:020}-{task_index:08}-{write_uuid}.parquet"

    return FileNames()


@contextmanager
def _told(ledger: Any, progress: Progress, ray: Any) -> Iterator[None]:
    """Tell the progress, every second and at the end, what the ledger has."""
    ended = threading.Event()

    def tell() -> None:
        try:
            news = ray.get(ledger.news.remote())
        except ray.exceptions.RayError:
            return  # the run itself says what happened
        progress.add(news.images, news.faces, [ImageError(*failed) for failed in news.failed])

    def watch() -> None:
        while not ended.wait(1.0):
            tell()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
        tell()
