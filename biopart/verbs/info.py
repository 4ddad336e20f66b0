"""Describe a store, a run, a recipe or a data set card."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from biopart.addresses import place
from biopart.recipe import Recipe, load_recipe
from biopart.run import Run, follow_latest, is_run
from biopart.settings import absent, find, read_yaml
from biopart.store import Store, load_card
from biopart.store.attributes import is_store
from biopart.store.events import events_in
from biopart.store.image_card import is_image_card, load_image_card

SUCCESS = ("loss", "chance_loss", "r2", "r2_excess", "accuracy", "chance_accuracy")
"""Values that say how well a pretext task is solved; each objective has some of them."""


def info(what: str) -> dict[str, Any]:
    """Describe a store, a run, a recording, a raw folder, a recipe or a card.

    Recipes and cards by path or shipped name.

    If a recipe and a card share a name, the recipe is described; a shipped name takes precedence
    over a folder that is neither a store nor a run.

    Raises FileNotFoundError if nothing has that name.
    """
    path = place(what)
    if is_store(path):
        return store_info(Store(path))
    path = follow_latest(path)
    if is_run(path):
        return run_info(Run(path))
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        from biopart.verbs.inspect import recording_info  # readers take a second to import

        return recording_info(path)
    if path.is_dir() and not is_shipped(what):
        from biopart.verbs.inspect import raw_info

        return raw_info(path)
    try:
        file = find(what, "recipes")
    except FileNotFoundError:
        try:
            file = find(what, "datasets")
        except FileNotFoundError:
            raise FileNotFoundError(absent(what, "recipes", "datasets")) from None
    if is_image_card(file):
        return load_image_card(file).model_dump(mode="json")
    if "recordings" in read_yaml(file):
        return load_card(file).model_dump(mode="json")
    return load_recipe(what).model_dump(mode="json")


def is_shipped(what: str) -> bool:
    """Whether a recipe or card of that name is shipped."""
    for folder in ("recipes", "datasets"):
        try:
            find(what, folder)
        except FileNotFoundError:
            continue
        return True
    return False


def store_info(store: Store) -> dict[str, Any]:
    """Describe a store: its card, persons, and numbers of windows or images per label."""
    labels: Counter[str] = Counter()
    for record in store:
        codes = store.label(record).tolist()
        labels.update(store.label_names[code] if code >= 0 else "unlabelled" for code in codes)
    card = store.attributes["card"]
    about = {"store": str(store.path), **{key: card[key] for key in ("title", "licence")}}
    about |= {"card": card["name"], "simulated": store.attributes.get("simulated", False)}
    about |= {"records": len(store), "channels": list(store.channels)}
    events = events_in(store)
    return {
        **about,
        **store.kind.describe(store, labels),
        **({"events": events} if events else {}),
    }


def run_info(run: Run) -> dict[str, Any]:
    """Describe a run: its data, its progress and the kappas of its fine-tunings."""
    origin = run.pretrained()
    provenance, rows = origin.provenance(), origin.metrics()
    train = [row for row in rows if "train/loss" in row]
    if origin.kind != "pretraining":
        return task_info(origin, train[-1]["step"] if train else 0)
    held_out = [row for row in rows if "validation/loss" in row]
    probed = [row for row in rows if "probe/kappa" in row]
    return {
        "run": str(origin.path),
        "recipe": load_recipe(origin.path / "recipe.yaml").name,
        "simulated": provenance["simulated"],
        "notes": provenance["notes"],
        "step": train[-1]["step"] if train else 0,
        "steps": provenance["steps"],
        "parameters": provenance["parameters"],
        "chosen": provenance["chosen"],
        **shown(train, "train"),
        **shown(held_out, "validation"),
        **{key: probed[-1][key] for key in ("probe/kappa", "probe/rank", "probe/std") if probed},
        "kappa": {t.path.name: t.result()["kappa"] for t in origin.finetunings()},
    }


def shown(rows: Sequence[Mapping[str, Any]], part: str) -> dict[str, Any]:
    """Return what the last of some rows says of an objective's success.

    Examples
    --------
    >>> shown([{"train/loss": 2.0}, {"train/loss": 1.0, "train/lr": 0.1}], "train")
    {'train/loss': 1.0}
    """
    keys = [f"{part}/{name}" for name in SUCCESS]
    return {key: rows[-1][key] for key in keys if rows and key in rows[-1]}


def task_info(run: Run, step: int) -> dict[str, Any]:
    """Describe a run of detection or segmentation: initial weights, progress, scores."""
    provenance = run.provenance()
    is_scored = (run.path / "result.json").is_file()
    scores = run.result() if is_scored else {}
    return {
        "run": str(run.path),
        "recipe": load_recipe(run.path / "recipe.yaml").name,
        "kind": run.kind,
        "step": step,
        **{
            key: provenance[key]
            for key in ("steps", "parameters", "weights", "left_out", "chosen")
            if key in provenance
        },
        **{kind: scores[kind] for kind in ("box", "mask", "scores") if kind in scores},
    }


def schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe."""
    return Recipe.model_json_schema()
