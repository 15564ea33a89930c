"""The tracker ``--log mlflow``: a run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME choose server and experiment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnkit.errors import MissingExtraError
from cnnkit.trackers.protocol import epoch_metrics, settings

if TYPE_CHECKING:
    from cnnkit.engine.fit import EpochResult

STATUS = {"finished": "FINISHED", "stopped": "KILLED"}  # any other is FAILED
MAX_VALUE_LENGTH = 500  # characters of a parameter, the lowest limit of all MLflow versions


class MlflowTracker:
    """A tracker with settings as parameters and metrics per epoch. A resumed run continues its run of MLflow."""

    def __init__(self) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError(f"--log mlflow needs the package mlflow; type: pip install 'cnnkit[mlflow]' ({error})") from None
        self._mlflow: Any = mlflow

    def start(self, facts: Mapping[str, Any], folder: Path, epoch: int) -> None:
        """Start a run with the name of the run directory, or continue the run whose id is in ``events/mlflow-run-id``."""
        del epoch  # a run that begins has no such file
        known = folder / "events" / "mlflow-run-id"
        if known.is_file():
            self._mlflow.start_run(run_id=known.read_text("utf-8"))
            return
        run = self._mlflow.start_run(run_name=folder.name)
        known.parent.mkdir(exist_ok=True)
        known.write_text(run.info.run_id, "utf-8")
        self._mlflow.log_params({name: str(value)[:MAX_VALUE_LENGTH] for name, value in settings(facts).items()})

    def epoch(self, result: EpochResult) -> None:
        """Log the metrics of an epoch."""
        self._mlflow.log_metrics(epoch_metrics(result), step=result.epoch)

    def end(self, status: str) -> None:
        """End the run."""
        self._mlflow.end_run(STATUS.get(status, "FAILED"))
