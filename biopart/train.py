"""The one training loop: pretraining, fine-tuning and probes all run through ``fit``.

The randomness of a step comes from (seed, step) and the order of an epoch from (seed, epoch), so
that a run that was stopped and taken up again equals one that ran through, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from biopart.data import Batch, Sampler, Source, StepOutput, Windows
from biopart.nn import Normalise, ViT
from biopart.nn.normalise import MISSING, Normalisation
from biopart.nn.weights import load_tensors, save_tensors
from biopart.recipe import Optimisation
from biopart.run import Run

CHECKPOINT_EVERY_S = 15.0
LOG_EVERY = 10
BETAS = (0.9, 0.95)

Row = dict[str, Any]


@runtime_checkable
class Following(Protocol):
    """An objective whose teacher follows the encoder after every step."""

    def after_step(self, progress: float) -> None:
        """Move the teacher; progress in (0, 1]."""


@dataclass(frozen=True)
class Task:
    """What is to be trained, on what, and how it is watched.

    Attributes
    ----------
    objective : nn.Module
        Takes (batch, generator, progress), gives a StepOutput; has ``.encoder``.
    source : Windows
        Windows to train on.
    settings : Optimisation
        Epochs, batch, learning rate and so on.
    normalise : "window", "imagenet" or "none"
        Done on the device before the objective sees a batch.
    seed : int
        Seed of order and randomness.
    validate : callable, optional
        Figures of held-out persons; called every ``settings.validate_every`` epochs.
    select : str, optional
        Figure whose best value decides which weights are kept.
    patience : int, optional
        Looks without gain before stopping.
    """

    objective: nn.Module
    source: Windows
    settings: Optimisation
    normalise: Normalisation
    seed: int
    validate: Callable[[], Row] | None = None
    select: str | None = None
    patience: int | None = None

    @property
    def steps(self) -> int:
        """Number of steps in all."""
        return self.settings.steps or self.settings.epochs * len(self.sampler)

    @property
    def sampler(self) -> Sampler:
        """The order of items."""
        return Sampler(len(self.source), self.settings.batch, self.seed)


@dataclass
class Progress:
    """Where a training stands, and the rows that it logged."""

    step: int = 0
    rows: list[Row] = field(default_factory=list)
    best: float = -math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] | None = None
    waited: int = 0
    windows: int = 0
    since: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)


def fit(
    task: Task,
    fabric: Fabric,
    run: Run | None = None,
    report: Callable[[Row], None] = lambda row: None,
) -> list[Row]:
    """Train an objective.

    Parameters
    ----------
    task : Task
        What to train.
    fabric : Fabric
        Device and precision.
    run : Run, optional
        Where metrics and the checkpoint go; a checkpoint that is there is gone on from.
    report : callable
        Gets every logged row.

    Returns
    -------
    list of dict
        Rows logged by this call.

    Raises
    ------
    ValueError
        If a window holds missing samples or the loss is no number; names the windows.
    """
    task.objective.to(fabric.device)
    optimiser = torch.optim.AdamW(parameter_groups(task), lr=task.settings.lr, betas=BETAS)
    progress = Progress(step=restore(run, task.objective, optimiser))
    model = fabric.setup_module(task.objective)
    normalise = Normalise(task.normalise)
    generator = torch.Generator(device=fabric.device)
    length = len(task.sampler)
    model.train()
    while progress.step < task.steps:
        epoch, done = divmod(progress.step, length)
        task.source.start_epoch(task.seed, epoch)
        for items in islice(task.sampler.batches(epoch), done, None):
            if time.perf_counter() - progress.saved > CHECKPOINT_EVERY_S:
                checkpoint(run, task.objective, optimiser, progress)
            batch = check_values(task.source.__getitems__(items)).to(fabric.device)
            batch.values = normalise(batch.values)
            seed_step(generator, task.seed, progress.step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(task, progress.step) * group["scale"]
            output: StepOutput = model(batch, generator, progress.step / task.steps)
            fabric.backward(output.loss)
            norm = clip(task)
            check_finite(output.loss, norm, batch)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if isinstance(task.objective, Following):
                task.objective.after_step((progress.step + 1) / task.steps)
            progress.step += 1
            progress.windows += len(batch.values)
            if progress.step % LOG_EVERY == 0 or progress.step in (1, task.steps):
                row = training_row(task, progress, output, norm)
                log(row, progress, run, report)
            if progress.step == task.steps:
                break
        ended = progress.step == task.steps or (epoch + 1) % task.settings.validate_every == 0
        if task.validate is not None and ended and look(task, progress, run, report):
            break
    checkpoint(run, task.objective, optimiser, progress)
    if progress.best_state is not None:
        task.objective.load_state_dict(progress.best_state)
    task.objective.eval()
    return progress.rows


def look(task: Task, progress: Progress, run: Run | None, report: Callable[[Row], None]) -> bool:
    """Measure held-out persons, keep the best weights; true = patience is over."""
    assert task.validate is not None
    task.objective.eval()
    figures = task.validate()
    task.objective.train()
    row = {"step": progress.step, "epoch": progress.step / len(task.sampler)}
    log(row | {f"validation/{k}": v for k, v in figures.items()}, progress, run, report)
    if task.select is None:
        return False
    figure = figures[task.select]
    if figure is not None and figure > progress.best:
        state = task.objective.state_dict()
        progress.best_state = {k: v.detach().clone() for k, v in state.items()}
        progress.best, progress.best_step, progress.waited = figure, progress.step, 0
        return False
    progress.waited += 1
    return task.patience is not None and progress.waited >= task.patience


def log(row: Row, progress: Progress, run: Run | None, report: Callable[[Row], None]) -> None:
    """Keep, write and report a row."""
    progress.rows.append(row)
    if run is not None:
        run.log(row)
    report(row)


def training_row(task: Task, progress: Progress, output: StepOutput, norm: Tensor) -> Row:
    """Return what is logged of a step."""
    now = time.perf_counter()
    row: Row = {
        "step": progress.step,
        "steps": task.steps,
        "epoch": progress.step / len(task.sampler),
        "lr": learning_rate(task, progress.step - 1),
        "train/loss": output.loss.item(),
        **{f"train/{name}": value.item() for name, value in output.metrics.items()},
        "train/gradient_norm": norm.item(),
        "windows_per_second": progress.windows / max(now - progress.since, 1e-9),
    }
    progress.windows, progress.since = 0, now
    return row


def clip(task: Task) -> Tensor:
    """Clip the norm of the gradient where the settings ask for it; return the norm before."""
    trained = [p for p in task.objective.parameters() if p.grad is not None]
    limit = task.settings.clip or math.inf
    groups = [[p] for p in trained] if task.settings.clip_each else [trained]
    norms = torch.stack([nn.utils.clip_grad_norm_(group, limit) for group in groups])
    return norms.square().sum().sqrt() if len(groups) > 1 else norms[0]


def learning_rate(task: Task, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then a cosine to 0.

    ``lr * (step + 1) / warm-up`` at first, then ``lr * (1 + cos(pi t)) / 2`` with t from 0 to 1.
    """
    warmup = min(round(task.settings.warmup_epochs * len(task.sampler)), task.steps)
    if step < warmup:
        return task.settings.lr * (step + 1) / warmup
    through = (step - warmup) / max(task.steps - warmup, 1)
    return task.settings.lr * (1 + math.cos(math.pi * through)) / 2


def parameter_groups(task: Task) -> list[dict[str, Any]]:
    """Group parameters by layer and weight decay.

    Layer ids as MAE's fine-tuning: 0 = [CLS], positions, patch embedding; i + 1 = block i;
    depth + 1 = the rest. A group's rate is ``layer_decay ** (depth + 1 - id)`` of the whole.
    """
    encoder = task.objective.encoder
    assert isinstance(encoder, ViT)
    depth = len(encoder.blocks)
    layer = {id(p): 0 for p in encoder.parameters()}
    layer |= {id(p): i + 1 for i, block in enumerate(encoder.blocks) for p in block.parameters()}
    layer |= {id(p): depth + 1 for p in encoder.norm.parameters()}
    special = {id(encoder.cls_token), id(getattr(encoder, "pos_embed", None))}
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for parameter in task.objective.parameters():
        if not parameter.requires_grad:
            continue
        number = layer.get(id(parameter), depth + 1)
        decays = parameter.ndim > 1 and id(parameter) not in special
        group = groups.setdefault(
            (number, decays),
            {
                "params": [],
                "weight_decay": task.settings.weight_decay if decays else 0.0,
                "scale": task.settings.layer_decay ** (depth + 1 - number),
            },
        )
        group["params"].append(parameter)
    return list(groups.values())


def seed_step(generator: torch.Generator, seed: int, step: int) -> None:
    """Seed an objective's generator, and torch's own for drop path, by (seed, step)."""
    state = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    generator.manual_seed(state)
    torch.manual_seed(state)


def check_values(batch: Batch) -> Batch:
    """Refuse windows with missing samples, naming them."""
    if batch.values.dtype == torch.int16:
        missing = (batch.values == MISSING).flatten(1).any(1)
        if bool(missing.any()):
            keys = [batch.key[index] for index in missing.nonzero().flatten().tolist()]
            raise ValueError(f"windows {', '.join(keys)} hold missing samples (NaN)")
    return batch


def check_finite(loss: Tensor, norm: Tensor, batch: Batch) -> None:
    """Stop before the step where loss or gradient is no number; the last checkpoint stays."""
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
        records = sorted({key.partition(":")[0] for key in batch.key})
        raise ValueError(
            f"the loss is {loss.item()} and its gradient {norm.item()} on windows of "
            f"{', '.join(records)}; lower lr or look at these recordings with: biopart check STORE"
        )


def checkpoint(
    run: Run | None, objective: nn.Module, optimiser: torch.optim.Optimizer, progress: Progress
) -> None:
    """Write weights, optimiser and step into one file, whole or not at all."""
    progress.saved = time.perf_counter()
    if run is None:
        return
    tensors = {f"objective.{name}": value for name, value in objective.state_dict().items()}
    for number, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in state.items()}
    save_tensors(run.checkpoint, tensors, {"step": progress.step})


def restore(run: Run | None, objective: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Take up a run's checkpoint, if there is one, and return its step."""
    if run is None or not run.checkpoint.is_file():
        if run is not None:
            run.cut_back(0)
        return 0
    tensors, about = load_tensors(run.checkpoint)
    weights: dict[str, Tensor] = {}
    states: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "objective":
            weights[rest] = value
        else:
            number, _, key = rest.partition(".")
            states.setdefault(int(number), {})[key] = value
    objective.load_state_dict(weights)
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": states, "param_groups": groups})
    step = int(about["step"])
    run.cut_back(step)
    return step


@torch.no_grad()
def measure(
    objective: nn.Module, source: Source, fabric: Fabric, normalise: Normalisation, *, count: int
) -> Row:
    """Return an objective's own figures on held-out windows, always the same ones.

    Parameters
    ----------
    objective : nn.Module
        As trained, in evaluation mode.
    source : Source
        Windows of held-out persons.
    fabric : Fabric
        Device and precision.
    normalise : "window", "imagenet" or "none"
        As in training.
    count : int
        Windows measured, spread evenly over the source; figures are means over them.
    """
    picked = np.linspace(0, len(source) - 1, min(count, len(source))).round().astype(np.int64)
    figures: dict[str, float] = {}
    prepare = Normalise(normalise)
    for number, start in enumerate(range(0, len(picked), 256)):
        batch = source.__getitems__(picked[start : start + 256]).to(fabric.device)
        batch.values = prepare(batch.values)
        generator = torch.Generator(device=fabric.device).manual_seed(number)
        with fabric.autocast():
            output: StepOutput = objective(batch, generator, 1.0)
        for name, value in {"loss": output.loss, **output.metrics}.items():
            share = len(batch.values) / len(picked)
            figures[name] = figures.get(name, 0.0) + value.item() * share
    return figures


@torch.no_grad()
def predict(
    model: Callable[[Tensor], Tensor],
    source: Source,
    fabric: Fabric,
    normalise: Normalisation,
    *,
    batch: int = 256,
) -> NDArray[np.float32]:
    """Return a model's output for every window of a source in order, (W, ...)."""
    prepare = Normalise(normalise)
    outputs = []
    for start in range(0, len(source), batch):
        items = range(start, min(start + batch, len(source)))
        values = prepare(source.__getitems__(items).values.to(fabric.device))
        with fabric.autocast():
            outputs.append(model(values).float().cpu().numpy())
    return np.concatenate(outputs)
