"""The page of the demonstration: its scores, what PART learnt, and links to the other pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from biopart import figures, pages
from biopart.run import Run
from biopart.studies.report import curves_of, find_entries, report
from biopart.studies.show import drawn, run_show
from biopart.studies.stage import StagingOptions, draw_night, stage_recording
from biopart.verbs.show import PartRun

BANNER = "Simulated nights: no number on this page is a result"
METHODS = {"part": "PART", "scratch": "from scratch"}


@dataclass(frozen=True)
class DemoReport:
    """A finished demonstration: its folder, the length of its nights, and its results.

    ``part_run`` is the opened pretrained run, ``rows`` has the results ``part`` and ``scratch`` of
    each number of ``persons``, ``probes`` scores by feature, ``tuned`` stages a night, ``changes``
    are the settings of the fine-tunings.
    """

    out: Path
    hours: float
    part_run: PartRun
    rows: Sequence[Mapping[str, Any]]
    probes: Mapping[str, Mapping[str, Any]]
    tuned: Run
    changes: Sequence[str]

    def draw(self) -> dict[str, Figure]:
        """Draw the figures of the page by their names."""
        (pretraining, *_) = curves_of(find_entries([self.part_run.run.path]))
        (*_, (_, reconstruction)) = drawn(self.part_run, "reconstruction", 1)
        scores = {
            name: [(row["persons"], row[m]["kappa"], *row[m]["kappa_ci95"]) for row in self.rows]
            for m, name in METHODS.items()
        }
        efficiency = figures.sample_efficiency(scores)
        efficiency.set_size_inches(4.6, 3.3)
        drawings = {
            "efficiency": efficiency,
            "r2": pretraining.draw("validation/r2"),
            "reconstruction": reconstruction,
            "hypnogram": self.night(),
        }
        for figure in filter(None, drawings.values()):
            figure.suptitle(BANNER, fontsize=10, color="#8a2d00")
            figure.set_label(f"Simulated nights. {figure.get_label()}")
        return {name: figure for name, figure in drawings.items() if figure is not None}

    def night(self) -> Figure:
        """Stage the first test person's recording, write its page, and draw its hypnogram."""
        person = self.part_run.experiment.split.test[0]
        recording = self.out / "raw" / "training" / person / f"{person}.hea"
        options = StagingOptions(truth=recording.with_suffix(".arousal"), clear=True)
        result = stage_recording(recording, self.tuned, self.out / "night", options)
        return draw_night(result.staged, result.expert_stages)["hypnogram"]


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """State where PART's kappa is higher, at the two decimals of the table.

    Examples
    --------
    >>> row = {"persons": 1, "part": {"kappa": 0.5}, "scratch": {"kappa": 0.504}}
    >>> verdict([row, {**row, "persons": 2, "part": {"kappa": 0.6}}])
    'PART beats training from scratch with 2 labelled persons, but not with 1.'
    """
    sizes: dict[bool, list[str]] = {True: [], False: []}
    for row in rows:
        part, scratch = (round(row[method]["kappa"], 2) for method in METHODS)
        sizes[part > scratch].append(str(row["persons"]))
    won, others = (", ".join(sizes[key]) for key in (True, False))
    if won and others:
        return (
            f"PART beats training from scratch with {won} labelled persons, but not with {others}."
        )
    does = "beats" if won else "does not beat"
    return f"PART {does} training from scratch with {won or others} labelled persons."


def write_page(demo: DemoReport, seconds: Mapping[str, float | None]) -> tuple[Path, list[Path]]:
    """Write ``demo.html`` and what it links to; return it and the two pictures of the README."""
    report([demo.part_run.run.path], demo.out / "report.html")
    show = run_show(demo.part_run.run, demo.out / "show", views=["reconstruction"], items=1)
    drawings = demo.draw()
    pictures = [demo.out / f"demo-{name}.png" for name in ("hypnogram", "reconstruction")]
    for path in pictures:
        figures.save(drawings[path.stem.removeprefix("demo-")], path)
    page = demo.out / "demo.html"
    pages.write_page(
        page,
        Path(__file__).with_name("page.html.jinja"),
        banner=BANNER,
        demo=demo,
        measured=show["measured"],
        verdict=verdict(demo.rows),
        images={name: Markup(figures.to_html(figure)) for name, figure in drawings.items()},
        seconds=seconds,
    )
    return page, pictures
