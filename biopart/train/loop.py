"""The training loop: pretraining, fine-tuning and probes all run through ``fit``.

The randomness of a step comes from (seed, step) and the order of an epoch from (seed, epoch), so
that a resumed run equals an uninterrupted one, bit for bit on a CPU.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.wrappers import _FabricModule
from numpy.typing import NDArray
from torch import Tensor, nn

from biopart.data import StepOutput
from biopart.data.source import foreseen
from biopart.grid import BatchGenerator
from biopart.nn.processes import counting
from biopart.run import Run
from biopart.train.checkpoints import restore, save_checkpoint
from biopart.train.checks import Checks, missing_windows
from biopart.train.live import Live
from biopart.train.ranks import Ranks
from biopart.train.schedule import clip, learning_rate, parameter_groups, weight_decay
from biopart.train.stopping import Stop, Stopped
from biopart.train.training import Following, Row, Training

CHECKPOINT_EVERY_S = 15.0
LOG_EVERY = 10


@dataclass
class Progress:
    """State of a training in one of its processes, and the rows that it logged."""

    ranks: Ranks
    step: int = 0
    rows: list[Row] = field(default_factory=list)
    best: float = -math.inf
    best_step: int = 0
    best_state: dict[str, Tensor] | None = None
    waited: int = 0
    windows: int = 0
    since: float = field(default_factory=time.perf_counter)
    saved: float = field(default_factory=time.perf_counter)

    def own(self, task: Training) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
        """Return what picks the items of a batch that this process reads."""
        parts = partial(self.ranks.shares, accumulate=task.settings.accumulate)
        return lambda items: np.concatenate([part.items for part in parts(items)])


def fit(
    task: Training,
    fabric: Fabric,
    run: Run | None = None,
    report: Callable[[Row], None] = lambda row: None,
    *,
    stop: Stop | None = None,
) -> list[Row]:
    """Train an objective.

    Several processes share every batch; the first one validates, probes and writes.

    Parameters
    ----------
    task : Training
        What to train.
    fabric : Fabric
        Device, precision and processes.
    run : Run, optional
        Where metrics and the checkpoint go; an existing checkpoint is resumed.
    report : callable
        Called with every logged row.
    stop : Stop, optional
        Looked at before every step, or, of several processes, before every tenth.

    Returns
    -------
    list of dict
        Rows logged by this call.

    Raises
    ------
    Stopped
        If a process was asked to end; the checkpoint is written.
    ValueError
        If a window has missing samples or the loss is not finite; names the windows.
    """
    ranks = Ranks(fabric)
    task.objective.to(fabric.device)
    live = Live(task.objective, task.settings.ema, fabric)
    optimiser = make_optimiser(task, live.module, fabric.device)
    progress, checks = Progress(ranks, restore(run, live, optimiser)), Checks(ranks.gather)
    fabric.barrier()  # all have read the checkpoint
    if not ranks.first:
        run, report = None, lambda row: None
    if run is not None:
        run.cut_back(progress.step or -1)  # what stands before the first step is logged anew
    generator = BatchGenerator(device=fabric.device)
    length = len(task.sampler)
    live.model.train()
    if task.probe is not None and progress.step == 0:
        with live.shown():
            probe(task, progress, run, report)
    while progress.step < task.steps:
        epoch, done = divmod(progress.step, length)
        task.source.start_epoch(task.seed, epoch)
        left = islice(task.sampler.batches(epoch), done, None)
        for items in foreseen(task.source, left, progress.own(task)):
            if is_to_save(live, progress, checks):
                save_checkpoint(run, live, optimiser, progress.step)
            if stop is not None and is_asked(stop, progress):
                checks.settle()
                save_checkpoint(run, live, optimiser, progress.step)
                fabric.barrier()
                raise Stopped(progress.step)
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(task, progress.step) * group["scale"]
                group["weight_decay"] = weight_decay(task, progress.step) * group["decays"]
            stepped = gradients(task, progress, live, generator, items=items)
            norm = clip(task.settings, live.module)
            checks.add(stepped.missing, stepped.loss, norm, stepped.keys)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if isinstance(live.module, Following):
                live.module.after_step((progress.step + 1) / task.steps)
            progress.step += 1
            live.after_step(progress.step)
            progress.windows += len(items)
            if is_logged(task, progress.step):
                log(training_row(task, progress, stepped, norm), progress, run, report)
            if progress.step == task.steps:
                break
        checks.settle()
        if end_epoch(task, progress, live, epoch, run=run, report=report):
            break
    save_checkpoint(run, live, optimiser, progress.step)
    live.settle()
    if progress.best_state is not None:
        task.objective.load_state_dict(progress.best_state)
    task.objective.eval()
    return progress.rows


@dataclass
class Stepped:
    """What a process says of its items of a step, part by part.

    Attributes
    ----------
    outputs : list of StepOutput
        Of the objective.
    shares : list of float
        Weights of the parts by their items.
    missing : Tensor (B,), bool
        Windows with missing samples.
    keys : list of str
        Of the windows.
    scale : Tensor, optional
        What the outputs' own weights are multiplied with, if they have some.
    """

    outputs: list[StepOutput]
    shares: list[float]
    missing: Tensor
    keys: list[str]
    scale: Tensor | None = None

    @cached_property
    def loss(self) -> Tensor:
        """The loss; its mean over the processes is that of the batch."""
        losses = [output.loss.detach() for output in self.outputs]
        if self.scale is None:
            return weighted(losses, self.shares)
        own = [output.weight for output in self.outputs if output.weight is not None]
        return weighted(losses, own) * self.scale

    def values(self) -> dict[str, Tensor]:
        """Return the loss and the metrics of the objective, which are computed now."""
        metrics = {
            f"train/{name}": weighted([o.metrics[name] for o in self.outputs], self.shares)
            for name in self.outputs[0].metrics
        }
        return {"train/loss": self.loss, **metrics}


def weighted(values: Sequence[Tensor], weights: Sequence[Tensor | float]) -> Tensor:
    """Add up 0-d tensors by their weights."""
    terms = [value * weight for value, weight in zip(values, weights, strict=True)]
    return terms[0] if len(terms) == 1 else torch.stack(terms).sum(0)


def gradients(
    task: Training,
    progress: Progress,
    live: Live,
    generator: BatchGenerator,
    *,
    items: NDArray[np.int64],
) -> Stepped:
    """Compute the gradients of a batch in parts, averaged over processes in the last one."""
    ranks, step = progress.ranks, progress.step + 1
    fabric, parts = ranks.fabric, ranks.shares(items, task.settings.accumulate)
    stepped, marks = Stepped([], [part.weight for part in parts], torch.empty(0), []), []
    for number, part in enumerate(parts):
        batch = task.source.__getitems__(part.items)
        marks.append(missing_windows(batch))
        batch = batch.to(fabric.device)
        seed_step(generator, task.seed, progress.step, ranks.rank * len(parts) + number)
        ranks.place(generator, part)
        batch = task.prepare(batch, generator)
        with fabric.no_backward_sync(
            cast(_FabricModule, live.model), enabled=number + 1 < len(parts)
        ):
            with counting(bool(part.weight)):
                output: StepOutput = live.model(batch, generator, progress.step / task.steps)
            if ranks.count == len(parts) == 1:  # the loss is the mean of the batch
                output.weight = None
            if output.weight is not None:
                output.weight = output.weight * bool(part.weight)
            weight = part.weight if output.weight is None else output.weight
            fabric.backward(ranks.loss(output.loss, weight, marks[-1]))
        if len(parts) > 1:  # what the metrics are computed from would add up
            names = output.metrics if is_logged(task, step) else ()
            metrics = {name: output.metrics[name] for name in names}
            output = StepOutput(output.loss.detach(), metrics, output.weight)
        stepped.outputs.append(output)
        stepped.keys += batch.key
    stepped.missing = marks[0] if len(marks) == 1 else torch.cat(marks)
    weights = [output.weight for output in stepped.outputs if output.weight is not None]
    if weights:
        stepped.scale = ranks.scale(weights)
        for parameter in live.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(stepped.scale)
    return stepped


def is_logged(task: Training, step: int) -> bool:
    """Tell whether a row is logged after a step, counted from 1."""
    return step % LOG_EVERY == 0 or step in (1, task.steps)


def is_to_save(live: Live, progress: Progress, checks: Checks) -> bool:
    """Tell whether a checkpoint is due, and nothing is wrong with the step before it.

    What is wrong, the next step finds, on all processes at once. Weights in shards are saved by
    all processes together.
    """
    together = progress.ranks.any if live.in_shards else bool
    if live.in_shards and progress.step % LOG_EVERY:
        return False
    if not together(time.perf_counter() - progress.saved > CHECKPOINT_EVERY_S):
        return False
    progress.saved = time.perf_counter()
    return not together(not checks.clean())


def is_asked(stop: Stop, progress: Progress) -> bool:
    """Tell whether a process was asked to end; several ask each other before every tenth step."""
    ranks = progress.ranks
    return (ranks.count == 1 or progress.step % LOG_EVERY == 0) and ranks.any(stop.asked)


def end_epoch(
    task: Training,
    progress: Progress,
    live: Live,
    epoch: int,
    *,
    run: Run | None,
    report: Callable[[Row], None],
) -> bool:
    """Probe and validate the averaged weights where it is due; true = patience has run out."""
    # The row of a validation is the last one of a training: studies read it there.
    if task.probe is not None and is_due(task, progress, epoch, task.probe_every):
        with live.shown():
            probe(task, progress, run, report)
    every = task.settings.validate_every
    if task.validate is None or not is_due(task, progress, epoch, every):
        return False
    with live.shown():
        return validate(task, progress, run, report)


def is_due(task: Training, progress: Progress, epoch: int, every: int) -> bool:
    """Tell whether what is done every so many epochs is due after an epoch, or at the end."""
    return progress.step == task.steps or (epoch + 1) % every == 0


def probe(
    task: Training, progress: Progress, run: Run | None, report: Callable[[Row], None]
) -> None:
    """Rate the encoder as it stands."""
    assert task.probe is not None
    task.objective.eval()
    found = progress.ranks.from_first(task.probe)
    row = {"step": progress.step, "epoch": progress.step / len(task.sampler), **found}
    task.objective.train()
    log(row, progress, run, report)


def validate(
    task: Training, progress: Progress, run: Run | None, report: Callable[[Row], None]
) -> bool:
    """Score held-out persons, keep the best weights; true = patience has run out."""
    assert task.validate is not None
    task.objective.eval()
    scores = progress.ranks.from_first(task.validate)
    task.objective.train()
    row = {"step": progress.step, "epoch": progress.step / len(task.sampler)}
    log(row | {f"validation/{k}": v for k, v in scores.items()}, progress, run, report)
    if task.select is None:
        return False
    score = scores[task.select]
    if score is not None and score > progress.best:
        state = task.objective.state_dict()
        progress.best_state = {k: v.detach().clone() for k, v in state.items()}
        progress.best, progress.best_step, progress.waited = score, progress.step, 0
        return False
    progress.waited += 1
    return task.patience is not None and progress.waited >= task.patience


def log(row: Row, progress: Progress, run: Run | None, report: Callable[[Row], None]) -> None:
    """Keep, write and report a row."""
    progress.rows.append(row)
    if run is not None:
        run.log(row)
    report(row)


def training_row(task: Training, progress: Progress, step: Stepped, norm: Tensor) -> Row:
    """Return the logged values of a step; of several processes their means."""
    now = time.perf_counter()
    row: Row = {
        "step": progress.step,
        "steps": task.steps,
        "epoch": progress.step / len(task.sampler),
        "lr": learning_rate(task, progress.step - 1),
        **progress.ranks.mean(step.values()),
        "train/gradient_norm": float(norm),
        "windows_per_second": progress.windows / max(now - progress.since, 1e-9),
    }
    progress.windows, progress.since = 0, now
    return row


def seed_step(generator: torch.Generator, seed: int, step: int, rank: int = 0) -> None:
    """Seed an objective's generator by (seed, step), torch's own, for drop path, by process too."""
    state = int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> 1)
    generator.manual_seed(state)
    torch.manual_seed((state + rank) % 2**63)


def make_optimiser(
    task: Training, module: nn.Module, device: torch.device
) -> torch.optim.Optimizer:
    """Make AdamW for the groups of a task's parameters, fused where the device is a GPU."""
    fused = True if device.type == "cuda" else None
    settings, groups = task.settings, parameter_groups(task, module)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=fused)
