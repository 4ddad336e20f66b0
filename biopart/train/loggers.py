"""Where logged values go beside metrics.jsonl: TensorBoard and MLflow, each an extra."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Protocol

from biopart.files import flat, read_json, write_json
from biopart.recipe import Recipe
from biopart.run import Run
from biopart.train.training import Row

PARAMETERS = 100  # that MLflow takes at once
FLUSH_S = 10  # how far TensorBoard may be behind


class Logger(Protocol):
    """Takes the rows of one training, in order.

    A training that goes on from a checkpoint goes on in the same log: no step is logged twice.
    """

    def log(self, row: Row) -> None:
        """Log the values of a step."""

    def close(self, *, finished: bool) -> None:
        """End the log; ``finished`` is false where the training was interrupted."""


@contextmanager
def logging_to(
    recipe: Recipe, run: Run, report: Callable[[Row], None]
) -> Iterator[Callable[[Row], None]]:
    """Yield a ``report`` of ``fit`` that also feeds the recipe's loggers.

    Parameters
    ----------
    recipe : Recipe
        ``compute.loggers`` names them; the whole is logged as parameters where they are kept.
    run : Run
        The training's folder, which need not exist before the first row.
    report : callable
        Called first with every row.

    Raises
    ------
    ValueError
        If a library is not installed; names the extra.
    """
    loggers = [LOGGERS[name](run, recipe) for name in dict.fromkeys(recipe.compute.loggers)]

    def log(row: Row) -> None:
        report(row)
        for logger in loggers:
            logger.log(row)

    finished = False
    try:
        yield log
        finished = True
    finally:
        for logger in loggers:
            logger.close(finished=finished)


def check_loggers(recipe: Recipe) -> None:
    """Refuse loggers whose library is not installed; ValueError names the extra."""
    for name in recipe.compute.loggers:
        LIBRARIES[name]()


class TensorBoardLogger:
    """Writes events into ``tensorboard/`` of a run's folder.

    Opened by the first row: events of an interrupted training from that step on are replaced.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.folder = run.path / "tensorboard"
        self._open = _summary_writer()
        self._writer: Any = None

    def log(self, row: Row) -> None:
        """Write the values of a step."""
        step = row["step"]
        if self._writer is None:
            self._writer = self._open(str(self.folder), purge_step=step, flush_secs=FLUSH_S)
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, finished: bool) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class MLflowLogger:
    """Logs to a run of MLflow, at the address that MLFLOW_TRACKING_URI names.

    The experiment is MLFLOW_EXPERIMENT_NAME, or else the recipe's name; the recipe's values are the
    parameters. The first row makes the run, whose identity is kept in ``mlflow.json`` of the
    folder, so that a training that goes on does so there.

    Raises
    ------
    ValueError
        From ``log`` and ``close``, if MLflow refuses: what it says.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run, self.recipe = run, recipe
        self._mlflow = _mlflow()
        self._client: Any = None
        self._identity = ""
        self._logged: dict[str, int] = {}

    def log(self, row: Row) -> None:
        """Log the values of a step that are not there yet."""
        step: int = row["step"]
        now = time.time_ns() // 1_000_000
        with self._explained():
            if self._client is None:
                self._begin()
            new = {n: value for n, value in scalars(row).items() if step > self._last_step(n)}
            metrics = [self._mlflow.entities.Metric(n, v, now, step) for n, v in new.items()]
            self._client.log_batch(self._identity, metrics=metrics)
            self._logged |= dict.fromkeys(new, step)

    def close(self, *, finished: bool) -> None:
        """Mark the run of MLflow as finished or failed."""
        if self._client is not None:
            with self._explained():
                status = "FINISHED" if finished else "FAILED"
                self._client.set_terminated(self._identity, status)

    def _begin(self) -> None:
        """Make a run of MLflow, or go on with the one of the folder."""
        client, file = self._mlflow.MlflowClient(), self.run.path / "mlflow.json"
        if file.is_file():
            self._identity = read_json(file)["run_id"]
            client.update_run(self._identity, status="RUNNING")
        else:
            made = client.create_run(self._experiment(client), run_name=self._name)
            self._identity = made.info.run_id
            write_json(file, {"run_id": self._identity})
            values = flat(self.recipe.model_dump(mode="json")).items()
            parameters = [self._mlflow.entities.Param(key, str(value)) for key, value in values]
            for start in range(0, len(parameters), PARAMETERS):
                some = parameters[start : start + PARAMETERS]
                client.log_batch(self._identity, params=some)
        self._client = client

    def _experiment(self, client: Any) -> str:
        """Return the identity of the experiment, made if it is not there."""
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or self.recipe.name
        found = client.get_experiment_by_name(name)
        identity: str = client.create_experiment(name) if found is None else found.experiment_id
        return identity

    @property
    def _name(self) -> str:
        """Name of the folder; of a fine-tuning after that of its run."""
        origin = self.run.pretrained().path.resolve()
        here = self.run.path.resolve()
        return here.name if here == origin else f"{origin.name}/{here.name}"

    def _last_step(self, name: str) -> int:
        """Return the last step at which a value was logged, also before an interruption."""
        if name not in self._logged:
            history = self._client.get_metric_history(self._identity, name)
            self._logged[name] = max((metric.step for metric in history), default=-1)
        return self._logged[name]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a fault of MLflow into one sentence."""
        try:
            yield
        except self._mlflow.exceptions.MlflowException as error:
            raise ValueError(
                f"MLflow refused the values of {self.run.path}: {error}; set MLFLOW_TRACKING_URI "
                "to a server or a store that takes them, or leave mlflow out of compute.loggers"
            ) from error


def scalars(row: Row) -> dict[str, float]:
    """Return the values of a row that are drawn over steps: numbers but the step itself.

    Examples
    --------
    >>> scalars({"step": 3, "steps": 9, "train/loss": 0.5, "validation/kappa": None, "epoch": 1})
    {'train/loss': 0.5, 'epoch': 1.0}
    """
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and name not in ("step", "steps")
    }


def _summary_writer() -> Any:
    """Return TensorBoard's writer; ValueError names the extra where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise _not_installed("tensorboard", "TensorBoard") from None
    return SummaryWriter


def _mlflow() -> Any:
    """Return the module mlflow; ValueError names the extra where it is not installed."""
    try:
        import mlflow
        import mlflow.entities
        import mlflow.exceptions
    except ImportError:
        raise _not_installed("mlflow", "MLflow") from None
    return mlflow


def _not_installed(name: str, library: str) -> ValueError:
    return ValueError(
        f"compute.loggers has {name}, but {library} is not installed; install it with: "
        f'pip install "biopart[{name}]"'
    )


LIBRARIES: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {"tensorboard": _summary_writer, "mlflow": _mlflow}
)
LOGGERS: Mapping[str, Callable[[Run, Recipe], Logger]] = MappingProxyType(
    {"tensorboard": TensorBoardLogger, "mlflow": MLflowLogger}
)
