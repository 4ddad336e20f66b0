"""The page of the demonstration: what a run learnt, drawn and told, in one file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from biopart import figures, pages
from biopart.experiment.experiment import Experiment, open_experiment
from biopart.experiment.stored import load_objective, stored_recipe
from biopart.files import write_text
from biopart.grid import place
from biopart.nn import Normalise
from biopart.nn.model import load
from biopart.objectives import Part
from biopart.run import Run

BANNER = "Simulated nights: no number on this page is a result"
WINDOWS = 200
_GREY = "#555555"


@dataclass(frozen=True)
class Placed:
    """Patches of windows and where the predicted relations put them, (windows, patches).

    Attributes
    ----------
    values
        Normalised windows (W, C, T).
    starts, placed
        True and predicted starts in samples; the mean of a window's places is the true one,
        since relations do not tell it.
    hinted
        Which patches had kept their position.
    """

    values: NDArray[np.float32]
    starts: NDArray[np.int64]
    placed: NDArray[np.float64]
    hinted: NDArray[np.bool_]

    @property
    def error(self) -> float:
        """Mean distance of unhinted patches from their true place, in samples."""
        return float(np.abs(self.placed - self.starts)[~self.hinted].mean())

    @property
    def guess(self) -> float:
        """The same error if every unhinted patch is put into the middle of its window's."""
        middle = self.starts.mean(axis=1, keepdims=True)
        return float(np.abs(middle - self.starts)[~self.hinted].mean())


class Story:
    """A finished demonstration, opened to be drawn."""

    def __init__(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
        self.run, self.rows = run, rows
        self.metrics = run.metrics()
        self.objective = cast(Part, load_objective(run))

    @cached_property
    def experiment(self) -> Experiment:
        """Recipe, cohort and persons."""
        return open_experiment(stored_recipe(self.run))

    @property
    def hint_share(self) -> float:
        """Share of patches that kept their position in training."""
        count = self.objective.count
        return round(self.objective.settings.position_hint * count) / count

    @property
    def sleeper(self) -> str:
        """The test person whose night is shown: the first."""
        return self.experiment.split.test[0]

    @property
    def sfreq_hz(self) -> float:
        """Rate of the store."""
        return self.experiment.cohort.sfreq_hz

    @property
    def hours(self) -> float:
        """Mean length of a night."""
        cohort = self.experiment.cohort
        lengths = [cohort.signal(record).shape[1] for record in cohort]
        return float(np.mean(lengths)) / cohort.sfreq_hz / 3600

    @property
    def tuned(self) -> Run:
        """The fine-tuning on the most persons."""
        return Run(self.run.path / "finetune" / f"s{self.rows[-1]['persons']}-seed0")

    @cached_property
    def best(self) -> Mapping[str, Any]:
        """Result of that fine-tuning."""
        found: Mapping[str, Any] = self.rows[-1]["part"]
        return found

    def curves(self) -> Figure:
        """Draw loss and R2 over steps, training and held-out, with chance and hint level."""
        part = self.objective
        chance = float((part.chance / part.span.square()).mean())
        names = ["train/loss", "validation/loss", "train/r2", "validation/r2"]
        figure = figures.training_curves(
            self._renamed(),
            [name.replace("validation", "held-out") for name in names],
            labels={"loss": "loss", "r2": "R2"},
            references={"loss": chance, "r2": 0.0},
        )
        level(figure.axes[1], self.hint_share, "arithmetic on the hints")
        return marked(figure, "loss and R2 of the pretraining")

    def _renamed(self) -> list[dict[str, Any]]:
        """Return logged rows with validation called held-out."""
        return [
            {key.replace("validation/", "held-out/"): value for key, value in row.items()}
            for row in self.metrics
        ]

    def by_hints(self) -> Figure | None:
        """Draw held-out R2 by how many members of a pair were hinted; None without hints."""
        said = {0: "no member hinted/R2", 1: "one member hinted/R2", 2: "both hinted/R2"}
        key = "validation/r2_hinted_"
        rows = [
            {"step": row["step"], **{name: row[f"{key}{n}"] for n, name in said.items()}}
            for row in self.metrics
            if f"{key}0" in row
        ]
        if not rows:
            return None
        figure = figures.training_curves(rows, list(said.values()), references={"R2": 0.0})
        level(figure.axes[0], 0.5, "arithmetic on one hint")
        figure.set_size_inches(6.5, 3.4)
        return marked(figure, "held-out R2 by number of hinted members of a pair")

    def efficiency(self) -> Figure:
        """Draw kappa over labelled persons, pretrained and from scratch."""
        points = {
            name: [
                (row["persons"], row[method]["kappa"], *row[method]["kappa_ci95"])
                for row in self.rows
            ]
            for name, method in (("PART", "part"), ("from scratch", "scratch"))
        }
        figure = figures.sample_efficiency(points)
        figure.set_size_inches(4.0, 3.1)
        return marked(figure, "kappa by labelled persons")

    def night(self) -> Figure:
        """Draw the night of a test person: scored, predicted and how sure the model was."""
        data, cohort = self.experiment.recipe.data, self.experiment.cohort
        source = cohort.source(data.channels, data.window_s, keep_bad=True, persons=[self.sleeper])
        with torch.no_grad():
            logits = load(self.tuned)(source.__getitems__(range(len(source))).values)
        probability = logits.softmax(-1).numpy()
        figure = figures.hypnogram(
            source.labels,
            probability.argmax(-1),
            probability,
            cohort.label_names,
            epoch_s=cohort.attributes["epoch_s"],
        )
        return marked(figure, f"night of test person {self.sleeper}")

    def confusion(self) -> Figure:
        """Draw the confusion matrix of all test persons."""
        names = self.experiment.cohort.label_names
        figure = figures.confusion(self.best["confusion"], names)
        return marked(figure, "epochs of all test persons")

    def windows(self) -> Tensor:
        """Return normalised windows (W, C, T) of test persons: first the one that is shown.

        That is the labelled window in the middle of the shown person's night; the others lie
        evenly over all test persons.
        """
        source = self.experiment.source(self.experiment.split.test, labelled=True)
        mine = np.flatnonzero(np.array(source.persons) == self.sleeper)
        spread = np.linspace(0, len(source) - 1, min(WINDOWS, len(source))).astype(np.int64)
        items = np.concatenate([mine[[len(mine) // 2]], spread])
        prepare = Normalise(self.experiment.recipe.data.normalise)
        normalised: Tensor = prepare(source.__getitems__(items).values)
        return normalised

    def placed(self, share: float) -> Placed:
        """Place the patches of windows by their predicted relations.

        Parameters
        ----------
        share : float
            Share of patches that keep their position; 0 = none, which the model never saw.
        """
        part, values = self.objective, self.windows()
        generator = torch.Generator().manual_seed(0)
        boxes = part.draw_boxes(values, generator)
        order = torch.rand(len(values), part.count, generator=generator).argsort(1).argsort(1)
        hinted = order < round(share * part.count)
        relations = part.relations(values, boxes, hinted if share else None)
        centred = place(relations)[..., 0].double() * part.encoder.patch[0]
        starts = boxes.start[..., 0]
        moved = centred + starts.double().mean(1, keepdim=True)
        return Placed(values.numpy(), starts.numpy(), moved.numpy(), hinted.numpy())

    def reconstruction(self, placed: Placed) -> Figure:
        """Draw the first channel of the first window, hinted patches ringed."""
        starts, found, hinted = placed.starts[0], placed.placed[0], placed.hinted[0]
        patch, shown = self.objective.encoder.patch[0], placed.values[0, :1]
        figure = figures.reconstruction(shown, starts, found, patch, sfreq_hz=self.sfreq_hz)
        figure.set_size_inches(6.8, 3.5)
        if hinted.any():
            axis = figure.axes[1]
            axis.scatter(
                starts[hinted] / self.sfreq_hz,
                found[hinted] / self.sfreq_hz,
                s=90,
                facecolors="none",
                edgecolors="black",
                linewidths=1.0,
                label="position given",
            )
            axis.legend(frameon=False, loc="upper left")
        kept = f"{hinted.sum()} of {len(hinted)} positions given"
        name = f"{self.sleeper}, {self.experiment.channels[0]}"
        return marked(figure, f"a window of {name} from predicted relations, {kept}")


def level(axis: Axes, value: float, label: str) -> None:
    """Draw a level that is reached without learning anything from the signal."""
    axis.axhline(value, color=_GREY, linestyle=":", label=label)
    axis.legend(fontsize=8, framealpha=1, edgecolor="none")


def marked(figure: Figure, title: str) -> Figure:
    """Write over a figure, and into its text for those who do not see it, that it is simulated."""
    figure.suptitle(f"Simulated: {title}", fontsize=10, color=_GREY)
    figure.set_label(f"Simulated: {title}. {figure.get_label()}")
    return figure


def write_page(
    out: Path,
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    seconds: Mapping[str, float | None],
) -> tuple[Path, list[Path]]:
    """Write ``demo.html`` and the two pictures of the README into a folder.

    Parameters
    ----------
    out : Path
        Folder of the demonstration.
    run : Run
        Its pretraining.
    rows : sequence of mapping
        ``persons`` and the results ``part`` and ``scratch`` of each size.
    seconds : mapping
        Of each part; None = taken from an earlier call.

    Returns
    -------
    tuple
        The page, and the pictures ``demo-hypnogram.png`` and ``demo-reconstruction.png``.
    """
    story = Story(run, rows)
    hinted, blind = story.placed(story.hint_share), story.placed(0.0)
    drawn = {
        "curves": story.curves(),
        "by_hints": story.by_hints(),
        "efficiency": story.efficiency(),
        "hypnogram": story.night(),
        "confusion": story.confusion(),
        "reconstruction": story.reconstruction(hinted if story.hint_share else blind),
        "blind": story.reconstruction(blind) if story.hint_share else None,
    }
    pictures = [out / f"demo-{name}.png" for name in ("hypnogram", "reconstruction")]
    for path in pictures:
        figure = drawn[path.stem.removeprefix("demo-")]
        assert figure is not None
        figures.save(figure, path)
    images = {name: Markup(figures.to_html(f)) for name, f in drawn.items() if f is not None}
    page = out / "demo.html"
    facts = {"placed": hinted, "blind": blind, "seconds": seconds, "out": out, "hours": story.hours}
    write_text(page, render(story, images, facts))
    return page, pictures


def render(story: Story, images: Mapping[str, Markup], facts: Mapping[str, Any]) -> str:
    """Fill the page's template."""
    held_out = [row for row in story.metrics if "validation/r2" in row]
    return pages.render(
        Path(__file__).with_name("page.html.jinja"),
        banner=BANNER,
        story=story,
        experiment=story.experiment,
        recipe=story.experiment.recipe,
        recipe_text=story.experiment.recipe.to_yaml(),
        provenance=story.run.provenance(),
        held_out=held_out[-1] if held_out else None,
        rows=story.rows,
        images=images,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    )
