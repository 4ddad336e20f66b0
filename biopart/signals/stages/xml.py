"""Hypnograms in XML: the NSRR's ``PSGAnnotation`` and Profusion's ``CMPStudyConfig``.

Sources: NSRR, harmonised annotations (SHHS, MESA, MrOS, CHAT, CFS, ...): ``ScoredEvent`` with
``EventConcept``, ``Start`` and ``Duration`` in seconds, and the recording's start as
``ClockTime``. Compumedics Profusion: ``SleepStages`` with one number per epoch of ``EpochLength``
seconds: 0 W, 1 to 4, 5 R, 6 movement, 9 unscored.
"""

from pathlib import Path
from xml.etree import ElementTree

from biopart.signals.clock import read_clock
from biopart.signals.recording import Mark, Start
from biopart.signals.stages.columns import number_of
from biopart.signals.stages.marks import no_stage_sentence, stages_among
from biopart.signals.stages.scoring import Scoring
from biopart.store.label_rules import StageLabels

KINDS = "PSGAnnotation (NSRR) and CMPStudyConfig (Compumedics Profusion)"


def read_stage_xml(path: Path, rule: StageLabels) -> Scoring:
    """Read a hypnogram in XML of either kind.

    Raises ValueError with the name of a file that is damaged, of another kind or without stages.
    """
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ValueError(f"{path.name} is not complete XML ({error}); copy it again") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without its namespace
    if root.find("SleepStages") is not None:
        return _profusion(path, root, rule)
    if root.find("ScoredEvents") is not None or root.tag == "PSGAnnotation":
        return _nsrr(path, root, rule)
    raise ValueError(f"{path.name} is XML of the kind {root.tag}; biopart reads {KINDS}")


def _nsrr(path: Path, root: ElementTree.Element, rule: StageLabels) -> Scoring:
    """Read scored events; those of the stage type are stages, the others are events."""
    marks: list[Mark] = []
    others: list[Mark] = []
    warnings: list[str] = []
    start: Start | None = None
    epoch_s = _seconds(path, root, "EpochLength") or 0.0
    for event in root.iter("ScoredEvent"):
        kind = event.findtext("EventType") or ""
        concept = event.findtext("EventConcept") or event.findtext("Name") or ""
        if concept == "Recording Start Time":
            given = (event.findtext("ClockTime") or "").strip()
            start = _start(given)
            if given and start is None:
                warnings.append(f"its ClockTime {given!r} is not a clock time and was ignored")
            continue
        onset = _seconds(path, event, "Start")
        if onset is None:
            raise ValueError(
                f"{path.name} has an event {concept!r} without a Start; export it again"
            )
        mark = Mark(onset, concept, _seconds(path, event, "Duration"))
        (marks if "stage" in kind.casefold() or not kind.strip() else others).append(mark)
    staging = stages_among(marks, rule)
    if not staging.known:
        raise ValueError(no_stage_sentence(path.name, [mark.text for mark in (*marks, *others)]))
    return Scoring(staging.marks, start, epoch_s, (*warnings, *staging.warnings))


def _profusion(path: Path, root: ElementTree.Element, rule: StageLabels) -> Scoring:
    """Read one stage per epoch; the numbers are Profusion's unless a card defines them."""
    stages = [(element.text or "").strip() for element in root.iter("SleepStage")]
    length = _seconds(path, root, "EpochLength")
    if not stages or not length or length < 0:
        raise ValueError(
            f"{path.name} has {len(stages)} stages of {length or 0:g} s: copy it again"
        )
    own = rule if rule.codes is not None else rule.model_copy(update={"codes": "rk"})
    marks = [Mark(place * length, text or "?", length) for place, text in enumerate(stages)]
    staging = stages_among(marks, own, events=False)
    if not staging.known:
        raise ValueError(no_stage_sentence(path.name, stages))
    return Scoring(staging.marks, None, length, staging.warnings)


def _seconds(path: Path, element: ElementTree.Element, tag: str) -> float | None:
    """Return the number in an element, None if the element does not exist."""
    text = (element.findtext(tag) or "").strip()
    if not text:
        return None
    value = number_of(text)
    if value is None or (value < 0 and tag != "Start"):
        raise ValueError(f"{path.name}: {tag} is {text!r}, not a number of seconds")
    return value


def _start(text: str) -> Start | None:
    """Read the start of a recording: its clock time is the end of ``00.00.00 22.00.00``."""
    parts = text.split()
    return read_clock(text) or (read_clock(parts[-1].replace(".", ":")) if parts else None)
