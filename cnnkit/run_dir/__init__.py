"""The run directory: the files of one training under fixed names, each read and written as a typed value."""

from cnnkit.run_dir.directory import SPLIT_COLUMNS, RunDir, create, find_run, newest, runs_folder, runs_in
from cnnkit.run_dir.history import HISTORY, HistoryRow
from cnnkit.run_dir.record import RunRecord, Status
from cnnkit.run_dir.stored_metrics import StoredMetrics, write_metrics

__all__ = [
    "HISTORY",
    "SPLIT_COLUMNS",
    "HistoryRow",
    "RunDir",
    "RunRecord",
    "Status",
    "StoredMetrics",
    "create",
    "find_run",
    "newest",
    "runs_folder",
    "runs_in",
    "write_metrics",
]
