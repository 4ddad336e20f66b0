"""Loggers: what arrives in TensorBoard and in MLflow, also after a break, and what is refused."""

import copy
import sys
from importlib.util import find_spec

import pytest

from biopart.recipe import resolve
from biopart.run import Run
from biopart.train import Logger, check_loggers, loggers, logging_to, loop
from biopart.verbs.finetune import finetune
from biopart.verbs.pretrain import pretrain, resume

needs_tensorboard = pytest.mark.skipif(
    find_spec("tensorboard") is None,
    reason='TensorBoard is not installed: pip install "biopart[tensorboard]"',
)
needs_mlflow = pytest.mark.skipif(
    find_spec("mlflow") is None, reason='MLflow is not installed: pip install "biopart[mlflow]"'
)
# Libraries that warn of their own or others' changes.
quiet = pytest.mark.filterwarnings("ignore")


class Kept:
    """A logger that keeps what it is given."""

    made: list["Kept"] = []  # noqa: RUF012

    def __init__(self, run, recipe):
        self.run, self.recipe = run, recipe
        self.rows, self.finished = [], None
        Kept.made.append(self)

    def log(self, row):
        self.rows.append(row)

    def close(self, *, finished):
        self.finished = finished


@pytest.fixture
def kept(monkeypatch):
    """Put a logger that keeps rows in TensorBoard's place."""
    monkeypatch.setattr(loggers, "LOGGERS", {"tensorboard": Kept})
    monkeypatch.setattr(loggers, "LIBRARIES", {"tensorboard": lambda: None})
    Kept.made.clear()
    return Kept.made


def made(small_recipe, *names, **changes):
    values = copy.deepcopy(small_recipe)
    values["compute"]["loggers"] = list(names)
    values["pretrain"] |= {"probe_every": 1, "ema": 0.9}
    values["finetune"] |= {"epochs": 2}
    return resolve(values, [f"{key}={value}" for key, value in changes.items()], "small")


def halted_and_resumed(recipe, folder, stop, monkeypatch):
    """Pretrain until a step is logged, and go on from its checkpoint."""
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", -1.0)

    def report(row):
        if row["step"] == stop and "train/loss" in row:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe, out=folder, latest=False, report=report)
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY_S", 15.0)
    return resume(folder)


def series(rows, name):
    return [(row["step"], row[name]) for row in rows if row.get(name) is not None]


def test_a_logger_gets_every_row_and_what_became_of_the_training(small_recipe, tmp_path, kept):
    recipe = made(small_recipe, "tensorboard", "tensorboard")
    run = pretrain(recipe, out=tmp_path / "run", latest=False)
    (logger,) = kept  # named twice, made once
    assert logger.rows == run.metrics()
    assert logger.rows[0]["step"] == 0
    assert (logger.run.path, logger.recipe, logger.finished) == (run.path, recipe, True)
    as_protocol: Logger = logger
    assert as_protocol is logger


def test_an_interrupted_training_is_not_finished(small_recipe, tmp_path, kept, monkeypatch):
    recipe = made(small_recipe, "tensorboard")
    run = halted_and_resumed(recipe, tmp_path / "run", 10, monkeypatch)
    assert [logger.finished for logger in kept] == [False, True]
    assert [row["step"] for row in kept[0].rows] == [0, 1, 8, 8]
    assert kept[1].rows == run.metrics()[4:]


def test_a_fine_tuning_is_logged_with_its_own_persons_and_seed(small_recipe, tmp_path, kept):
    run = pretrain(made(small_recipe, "tensorboard"), out=tmp_path / "run", latest=False)
    tuned = finetune(run, subjects=2, seed=5)
    logger = kept[1]
    assert logger.rows == tuned.metrics()
    assert (logger.recipe.finetune.subjects, logger.recipe.seed) == (2, 5)
    assert logger.run.path == tuned.path


def test_a_dry_run_is_logged_nowhere(small_recipe, tmp_path, kept, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain(made(small_recipe, "tensorboard"), dry_run=True)
    assert kept == []


def test_loggers_set_for_a_fine_tuning_keep_name_and_machine(small_run, kept):
    plain, logged = (
        finetune(small_run, subjects=1, changes=changes)
        for changes in ([], ["compute.loggers=[tensorboard]"])
    )
    assert plain.path == logged.path
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("name", "module", "library"),
    [
        ("tensorboard", "torch.utils.tensorboard", "TensorBoard"),
        ("mlflow", "mlflow", "MLflow"),
    ],
)
def test_a_library_that_is_missing_is_named_before_the_training(
    small_recipe, small_run, tmp_path, monkeypatch, name, module, library
):
    monkeypatch.setitem(sys.modules, module, None)
    sentence = (
        f"^compute.loggers has {name}, but {library} is not installed; install it with: "
        rf'pip install "biopart\[{name}\]"$'
    )
    with pytest.raises(ValueError, match=sentence):
        pretrain(made(small_recipe, name), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=sentence):
        finetune(small_run, subjects=3, changes=[f"compute.loggers=[{name}]"])
    assert not list(small_run.path.glob("finetune/s3*"))


def test_another_logger_is_refused_with_the_names_that_there_are(small_recipe):
    with pytest.raises(ValueError, match=r"is 'wandb'; give 'tensorboard' or 'mlflow'"):
        made(small_recipe, "wandb")


def events(folder):
    """Read the events of TensorBoard by value: {name: [(step, value)]}."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    names = found.Tags()["scalars"]
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in names}


@quiet
@needs_tensorboard
def test_tensorboard_has_the_values_of_every_step_once(small_recipe, tmp_path, monkeypatch):
    recipe = made(small_recipe, "tensorboard")
    run = halted_and_resumed(recipe, tmp_path / "run", 20, monkeypatch)
    rows, found = run.metrics(), events(run.path / "tensorboard")
    assert [step for step, _ in found["train/loss"]] == [1, 10, 20, 24]
    assert [step for step, _ in found["probe/kappa"]] == [0, 8, 16, 24]
    assert {"validation/r2", "lr", "epoch", "probe/rank", "probe/std"} <= set(found)
    assert not {"step", "steps"} & set(found)
    for name in set(found) - {"windows_per_second"}:
        steps, values = zip(*series(rows, name), strict=True)
        assert [step for step, _ in found[name]] == list(steps)
        assert [value for _, value in found[name]] == pytest.approx(values, rel=1e-6)


@quiet
@needs_tensorboard
def test_a_fine_tuning_that_is_done_anew_is_logged_anew(small_recipe, tmp_path):
    run = pretrain(made(small_recipe), out=tmp_path / "run", latest=False)
    for _ in range(2):
        tuned = finetune(run, subjects=2, changes=["compute.loggers=[tensorboard]"])
    found = events(tuned.path / "tensorboard")
    steps, values = zip(*series(tuned.metrics(), "validation/kappa"), strict=True)
    assert [step for step, _ in found["validation/kappa"]] == list(steps)
    assert [value for _, value in found["validation/kappa"]] == pytest.approx(values, rel=1e-6)
    assert len(list((tuned.path / "tensorboard").iterdir())) == 1


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    """Let MLflow track in a folder; return its client."""
    if find_spec("sqlalchemy") is None:  # mlflow-skinny alone
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "tracked").as_uri())
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/tracked.db")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    from mlflow import MlflowClient

    return MlflowClient()


def history(client, identity, name):
    return [(metric.step, metric.value) for metric in client.get_metric_history(identity, name)]


@quiet
@needs_mlflow
def test_mlflow_has_parameters_and_the_values_of_every_step_once(
    small_recipe, tmp_path, monkeypatch, tracking
):
    recipe = made(small_recipe, "mlflow")
    run = halted_and_resumed(recipe, tmp_path / "run", 20, monkeypatch)
    experiment = tracking.get_experiment_by_name("small")
    (found,) = tracking.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("run", "FINISHED")
    wanted = {"encoder.dim": "16", "pretrain.objective.name": "part", "data.window_s": "None"}
    assert wanted.items() <= found.data.params.items()
    rows = run.metrics()
    names = {key for row in rows for key in row} - {"step", "steps"}
    assert set(found.data.metrics) == names
    for name in names - {"windows_per_second"}:
        once = list(dict.fromkeys(series(rows, name)))  # of an epoch, several rows of one step
        assert history(tracking, found.info.run_id, name) == once


@quiet
@needs_mlflow
def test_mlflow_names_a_fine_tuning_after_its_run(small_recipe, tmp_path, monkeypatch, tracking):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "together")
    run = pretrain(made(small_recipe), out=tmp_path / "run", latest=False)
    tuned = finetune(run, subjects=2, changes=["compute.loggers=[mlflow]"])
    experiment = tracking.get_experiment_by_name("together")
    (found,) = tracking.search_runs([experiment.experiment_id])
    assert found.info.run_name == "run/s2-seed0"
    assert found.data.params["finetune.subjects"] == "2"
    kappas = history(tracking, found.info.run_id, "validation/kappa")
    assert kappas == series(tuned.metrics(), "validation/kappa")


@quiet
@needs_mlflow
def test_what_mlflow_refuses_is_one_sentence(small_recipe, tmp_path, monkeypatch, tracking):
    recipe = made(small_recipe, "mlflow")
    run = Run(tmp_path / "run")
    run.path.mkdir()
    (run.path / "recipe.yaml").write_text(recipe.to_yaml())
    (run.path / "mlflow.json").write_text('{"run_id": "0123456789abcdef0123456789abcdef"}')
    check_loggers(recipe)
    with (
        pytest.raises(
            ValueError, match=r"MLflow refused the values of .*; set MLFLOW_TRACKING_URI"
        ),
        logging_to(recipe, run, lambda row: None) as log,
    ):
        log({"step": 1, "train/loss": 0.5})
