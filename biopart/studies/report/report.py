"""One page for any set of runs: settings, curves, results and provenance side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from biopart.studies.report.page import write_page
from biopart.studies.report.runs import Entry, natural

DEPTH = 2  # a curve keeps its runs in OUT/runs/NAME


def report(runs: Sequence[Path], out: Path = Path("report.html")) -> Path:
    """Write one self-contained HTML page that sets runs side by side.

    Parameters
    ----------
    runs : sequence of Path
        Run folders, finished or not; fine-tunings inside them; or folders that contain runs up
        to two levels below, as that of a curve.
    out : Path
        The page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    FileNotFoundError
        If a path is not a folder, or contains no run.
    ValueError
        If no run is given, ``out`` is a folder, or a file of a run is damaged.
    """
    if out.is_dir():
        raise ValueError(f"{out} is a folder; give a file to write, for instance {out}/report.html")
    write_page(out, find_entries(runs))
    return out


def find_entries(paths: Sequence[Path]) -> list[Entry]:
    """Read the runs of folders, in the order given, each once.

    Parameters
    ----------
    paths : sequence of Path
        Runs, fine-tunings inside runs, or folders that contain runs up to two levels below.

    Raises
    ------
    FileNotFoundError
        If a path is not a folder, or contains no run.
    ValueError
        If no path is given or a file of a run is damaged.
    """
    if not paths:
        raise ValueError("no run was given; give one or more run folders")
    shown_as: dict[Path, Path] = {}
    tunings: dict[Path, list[Path | None]] = {}  # None = all of them
    for path in paths:
        for folder, tuning in _runs_of(path):
            shown_as.setdefault(folder.resolve(), folder)
            tunings.setdefault(folder.resolve(), []).append(tuning)
    labels = distinguishing(list(shown_as))
    return [Entry(path, labels[key], _chosen(tunings[key])) for key, path in shown_as.items()]


def _chosen(tunings: Sequence[Path | None]) -> list[Path] | None:
    """Return the requested fine-tunings, each once; None if the whole run was requested."""
    once = {path.resolve(): path for path in tunings if path is not None}
    return None if None in tunings else list(once.values())


def _runs_of(path: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield the runs at a path, with the fine-tuning if the path is one."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise FileNotFoundError(
            f"{path} {what}; give the folder of a run, of a fine-tuning or of a curve"
        )
    if (path / "recipe.yaml").is_file():
        yield path, None
        return
    whole = path.resolve()
    above = whole.parents[min(1, len(whole.parents) - 1)]
    tuned = any((path / name).is_file() for name in ("finetune.yaml", "result.json"))
    if tuned and (above / "recipe.yaml").is_file():
        as_given = path.parent.parent
        yield (as_given if as_given.resolve() == above else above), path
        return
    below = {
        file.parent for n in range(DEPTH) for file in path.glob("*/" * (n + 1) + "recipe.yaml")
    }
    if not below:
        raise FileNotFoundError(
            f"{path} is not a run (no recipe.yaml) and contains none up to {DEPTH} folders below; "
            "make one with: biopart pretrain RECIPE"
        )
    yield from ((folder, None) for folder in sorted(below, key=natural))


def distinguishing(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the shortest ending of each path that no other path shares.

    Examples
    --------
    >>> list(distinguishing([Path("/x/a/r"), Path("/x/b/r"), Path("/x/b/q")]).values())
    ['a/r', 'b/r', 'q']
    """

    def end(path: Path, n: int) -> str:
        return str(Path(*path.parts[-n:]))

    labels = {}
    for path in paths:
        others = [other for other in paths if other != path]
        lengths = range(1, len(path.parts) + 1)
        labels[path] = next(
            (end(path, n) for n in lengths if all(end(o, n) != end(path, n) for o in others)),
            str(path),
        )
    return labels
