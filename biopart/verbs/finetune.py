"""Fine-tune a pretrained encoder on the labels of a few persons, or train one from scratch."""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from biopart.compute import compiled, open_fabric, settle
from biopart.data import Source
from biopart.evaluation.metrics import balanced_weights, kappa_of, score
from biopart.nn.weights import load_encoder, save_classifier, transfer
from biopart.objectives import Classify, ClassifySettings
from biopart.recipe import Recipe
from biopart.run import Run, origins, write_json, write_text
from biopart.train import Row, Task, fit, predict
from biopart.verbs.experiment import Experiment, class_holders, open_experiment
from biopart.verbs.pretrain import stored_recipe


def finetune(
    run: Run,
    *,
    subjects: int | None = None,
    seed: int | None = None,
    from_scratch: bool = False,
    changes: Sequence[str] = (),
    dry_run: bool = False,
    report: Callable[[Row], None] = lambda row: None,
) -> Run:
    """Fine-tune a run's encoder and score it, once, on the test persons.

    On-grid patches, new learned positions, a linear layer on [CLS], all weights train (PART,
    arXiv 2506.03682). Weights are those of the best kappa on validation persons.

    Parameters
    ----------
    run : Run
        A pretraining; with ``from_scratch`` only its recipe is used.
    subjects, seed : int, optional
        Labelled persons and the seed that draws them; the recipe's by default.
    from_scratch : bool
        The supervised baseline: a new encoder.
    changes : sequence of str
        ``a.b=value`` settings that replace the recipe's.
    dry_run : bool
        Do everything on one batch, in a folder that is thrown away.
    report : callable
        Gets every logged row.

    Returns
    -------
    Run
        The fine-tuning's folder, with model.safetensors and result.json.

    Raises
    ------
    ValueError
        If more subjects are asked for than are labelled, or fewer than two classes remain.
    FileNotFoundError
        If the run has no weights.
    """
    origin = run.pretrained()
    recipe = stored_recipe(origin, changes)
    if dry_run:
        short = recipe.finetune.model_copy(update={"steps": 1})
        recipe = recipe.model_copy(update={"finetune": short})
    subjects = recipe.finetune.subjects if subjects is None else subjects
    seed = recipe.seed if seed is None else seed
    if not from_scratch and not origin.encoder.is_file():
        raise FileNotFoundError(
            f"{origin.path} has no weights yet; finish it with: biopart pretrain --resume --out "
            f"{origin.path}, or give --from-scratch"
        )
    experiment = open_experiment(recipe)
    persons = experiment.split.subset(subjects, seed)
    name = f"{'scratch-' if from_scratch else ''}s{subjects}-seed{seed}"
    if dry_run:
        with tempfile.TemporaryDirectory() as folder:
            target = Run(Path(folder) / name)
            _train(experiment, origin, target, persons, seed, from_scratch, report)
            return target
    target = Run(origin.path / "finetune" / name)
    _train(experiment, origin, target, persons, seed, from_scratch, report)
    return target


def _train(
    experiment: Experiment,
    origin: Run,
    target: Run,
    persons: Sequence[str],
    seed: int,
    from_scratch: bool,
    report: Callable[[Row], None],
) -> None:
    """Train, keep the best weights, score the test persons, write everything."""
    begun = time.perf_counter()
    recipe, split = experiment.recipe, experiment.split
    source = experiment.source(persons, labelled=True)
    warnings = check_classes(experiment, source)
    compute = recipe.compute
    fabric = open_fabric(compute, lambda: experiment.encoder("learned", 0))
    objective = build(experiment, source, seed)
    seen = list(persons)
    if not from_scratch:
        transfer(load_encoder(origin.encoder), objective.encoder)
        seen += origin.provenance()["seen"]
    objective.to(fabric.device)
    compiled(objective.encoder, compute)
    validation = experiment.source(split.validation, labelled=True) if split.validation else None
    task = Task(
        objective,
        settle(source, compute, fabric),
        recipe.finetune,
        recipe.data.normalise,
        seed,
        validate=None
        if validation is None
        else lambda: look(objective, validation, fabric, recipe),
        select=None if validation is None else "kappa",
        patience=recipe.finetune.patience,
    )
    target.path.mkdir(parents=True, exist_ok=True)
    (target.path / "metrics.jsonl").unlink(missing_ok=True)
    write_text(target.path / "recipe.yaml", recipe.to_yaml())

    def watch(row: Row) -> None:
        target.log(row)
        report(row)

    rows = fit(task, fabric, None, watch)
    save_classifier(target.model, objective.model, experiment.about([*seen, *split.validation]))
    result = test(experiment, objective, fabric)
    result |= {
        "n_train_persons": len(persons),
        "train_persons": list(persons),
        "steps": rows[-1]["step"],
        "from_scratch": from_scratch,
        "seed": seed,
        "warnings": warnings,
        "simulated": experiment.simulated,
        "seconds": time.perf_counter() - begun,
    }
    write_json(target.path / "provenance.json", {**origins(), "seen": sorted(set(seen))})
    write_json(target.path / "result.json", result)


def build(experiment: Experiment, source: Source, seed: int) -> Classify:
    """Build the classifier on a new encoder with learned positions."""
    settings = experiment.recipe.finetune
    classes = len(experiment.cohort.label_names)
    weights = None
    if settings.class_weights:
        weights = tuple(balanced_weights(source.labels, classes).tolist())
    encoder = experiment.encoder("learned", seed)
    return Classify(
        encoder, ClassifySettings(classes=classes, pool=settings.pool, class_weights=weights)
    )


def check_classes(experiment: Experiment, source: Source) -> list[str]:
    """Warn of classes that the drawn persons lack; refuse fewer than two."""
    holders = class_holders(source)
    absent = [name for name, persons in holders.items() if not persons]
    if len(holders) - len(absent) < 2:
        present = ", ".join(name for name in holders if name not in absent)
        drawn = ", ".join(sorted(set(source.persons)))
        raise ValueError(
            f"the persons drawn ({drawn}) have only {present}; draw more subjects or another --seed"
        )
    if not absent:
        return []
    everyone = class_holders(experiment.source(experiment.split.finetune, labelled=True))
    return [
        f"no window of {name} among the persons drawn; "
        f"{', '.join(everyone[name]) or 'nobody else'} would have it"
        for name in absent
    ]


def look(objective: Classify, source: Source, fabric: Fabric, recipe: Recipe) -> Row:
    """Return pooled kappa and accuracy on validation persons."""
    logits = predict(objective.model, source, fabric, recipe.data.normalise)
    confusion = np.zeros((logits.shape[1], logits.shape[1]), dtype=np.int64)
    np.add.at(confusion, (source.labels, logits.argmax(1)), 1)
    kappa = float(kappa_of(confusion))
    accuracy = float(np.trace(confusion) / confusion.sum())
    return {"kappa": kappa if np.isfinite(kappa) else 0.0, "accuracy": accuracy}


def test(experiment: Experiment, objective: Classify, fabric: Fabric) -> dict[str, Any]:
    """Score the test persons: the one look at them."""
    persons = experiment.split.test
    source = experiment.source(persons, labelled=True, keep_bad=True)
    logits = predict(objective.model, source, fabric, experiment.recipe.data.normalise)
    return scored(source, logits.argmax(1)) | {"test_persons": list(persons)}


def scored(source: Source, predicted: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Score predictions of a source; count the windows that touch bad stretches."""
    names = source.cohort.label_names
    result = score(source.labels, predicted, source.persons, names)
    persons = sorted(set(source.persons))
    clean = source.cohort.source(
        source.channels, source.size / source.cohort.sfreq_hz, labelled=True, persons=persons
    )
    absent = sorted(set(names) - set(result["classes"]))
    return result | {
        "n_windows_bad": len(source) - len(clean),
        "test_set_lacks": absent,
    }
