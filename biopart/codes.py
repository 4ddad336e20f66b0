"""The codes that data are stored by: missing samples, sleep stages, and their spellings.

Codes are W=0, N1=1, N2=2, N3=3, R=4 and -1 for unscored, artefact and movement. Stages 3 and 4 of
Rechtschaffen and Kales are N3, as in the AASM manual.

Sources of the spellings: EDF+ specification (Sleep stage W); the NSRR's harmonised XML (Stage 2
sleep|2); PhysioNet's slpdb (2 OA) and CAP database (SLEEP-S2); exports of MNE, YASA, Embla,
Compumedics and SOMNOmedics; the words of the Rechtschaffen and Kales and AASM manuals in German,
French, Spanish, Italian, Dutch and Portuguese.
"""

import re
import unicodedata

MISSING = -32768
"""The int16 value that marks a missing sample in a store (its ``_FillValue``)."""

DEVIATION = 1000
"""Steps of a deviation in the integers of a recording that is normalised as a whole."""

STAGES = ("W", "N1", "N2", "N3", "R")
"""Names of the stages by their codes, after the AASM manual."""

YASA = dict(zip(STAGES, ("WAKE", "N1", "N2", "N3", "REM"), strict=True))
"""YASA's name of each stage."""

EDF_UNSCORED = "Sleep stage ?"
"""EDF+'s text of an epoch without a stage."""

_WAKE = (
    "w wk wake awake waking wakefulness s0 n0 wach wachheit wachzustand eveil eveille veille "
    "vigilia vigile vigilancia despierto despierta veglia sveglio sveglia wakker waak waken "
    "acordado acordada"
)
_REM = (
    "r rem remsleep remschlaf traumschlaf remslaap paradoxal sommeilparadoxal paradoxicalsleep "
    "paradoxical sp mor desincronizado sonorem sonnorem suenorem"
)
_UNSCORED = (
    "? mt movement movementtime m artefact artifact art unscored notscored unscorable unstaged uns "
    "unknown undefined undetermined indeterminate nostage none na nan null nichtgewertet"
)
_ROMAN = {"i": 1, "ii": 2, "iii": 3, "iv": 4}
_CODES = {
    **dict.fromkeys(_WAKE.split(), 0),
    **dict.fromkeys(_REM.split(), 4),
    **dict.fromkeys(_UNSCORED.split(), -1),
    **{
        f"{kind}{stage}": min(stage, 3)
        for kind in ("n", "s", "nrem", "nonrem", "nr")
        for stage in (1, 2, 3, 4)
    },
}
_STAGE = (
    "stage|stadium|stade|stadio|estadio|estagio|etapa|fase|phase|schlafstadium|slaapstadium|"
    "schlafphase|slaapfase"
)
_SLEEP = "sleep|schlaf|sommeil|sueno|sonno|slaap|sono"
_PREFIX = re.compile(
    rf"(?:(?:{_SLEEP}) )?(?:{_STAGE})(?: d[eiu]l? (?:{_SLEEP}))?(?=[ 0-9nsr?]|$) ?"
)
_ENDING = re.compile(rf" (?:d[eiu]l? )?(?:{_SLEEP})$")
_KIND = re.compile(rf"(non ?rem|nrem|nr)(?: (?:{_STAGE}))? ?([1-4])")
# slpdb's marks behind a stage: hypopnea, obstructive and central apnea, leg movement, arousal.
_BEHIND = re.compile(r"(w|r|rem|[ns]?[1-4]|mt)(?: (?:h|ha|oa|x|ca|caa|l|la|a))+")
_EVENT = re.compile(
    r"arousal|apn(o)?ea|apnee|apnoe|hypopn|hipopn|\brera|respir|\bresp\b|desat|spo2|sao2|oxygen|"
    r"snor|schnarch|ronfl|ronqu|russa|snurk|\bplm|\blms?\b|limb|leg mov|beinbeweg|jambe|periodic|"
    r"cheyne|\blights? ?(on|off|out)\b|\blicht\b|lumiere|\bluces?\b|\bluz\b|\bluci\b|"
    r"position|supine|prone|body mov|eye mov|spindle|spindel|k ?complex|k komplex|bruxism|"
    r"bradycard|tachycard|\becg\b|heart|\bmcap\b|\bcap a[123]\b|recording|\brec (start|stop)|"
    r"\bunsure\b|calibrat|biocal|impedance|electrode|video|montage|filter change|gain change|"
    r"marker\b"
)


def plain_text(text: str) -> str:
    """Normalise a text: small letters, no accents, signs between words, no suffix.

    The suffix is ``@@`` and the channel of an EDF+ annotation, or ``|`` and the NSRR's number.

    Examples
    --------
    >>> plain_text(" Sleep-S2"), plain_text("Stage 2 sleep|2"), plain_text("Éveil@@EEG C3")
    ('sleep s2', 'stage 2 sleep', 'eveil')
    """
    text = re.split(r"@@|\|", text, maxsplit=1)[0].strip() or text
    letters = unicodedata.normalize("NFKD", text.casefold())
    kept = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(re.sub("[-\u2010-\u2015_:;=/.,()\\[\\]]+", " ", kept).split())


def stage_code(text: str) -> int | None:
    """Return the code of a stage mark, None if the text is not a known stage.

    Any case; ``N2``, ``S2``, ``NREM 2``, ``Stage 2``, ``Sleep stage 2``, ``Stage 2 sleep|2``,
    ``SLEEP-S2``, ``2 OA``, ``REM``, ``Wake``, ``Movement time``, ``Sleep stage ?``, and the words
    for wake and REM in six other languages. A number alone is not a stage: its meaning depends on
    the file.

    Examples
    --------
    >>> [stage_code(text) for text in ("Sleep stage 4", "Rem", "MT", "Veglia", "2 OA", "2")]
    [3, 4, -1, 0, 2, None]
    """
    plain = plain_text(text)
    code = _code_of(plain)
    if code is not None or _is_paired(text):
        return code
    words = plain.split()
    for count in range(len(words) - 1, 0, -1):  # a stage with an event behind it
        if _EVENT.search(" ".join(words[count:])):
            code = _code_of(" ".join(words[:count]))
            if code is not None:
                return code
    return None


def _code_of(plain: str) -> int | None:
    """Return the code of a plain text that is a stage and nothing else."""
    behind = _BEHIND.fullmatch(plain)
    if behind is not None:
        return _coded(behind[1], prefixed=True)
    prefix = _PREFIX.match(plain)
    core = plain[prefix.end() :] if prefix is not None else plain
    core = _ENDING.sub("", core) if prefix is not None else core
    kind = _KIND.fullmatch(_ENDING.sub("", core))
    if kind is not None:
        return min(int(kind[2]), 3)
    code = _coded(core, prefixed=prefix is not None)
    if code is None:
        code = _coded(_ENDING.sub("", re.sub(rf"^(?:{_SLEEP}) ", "", core)), prefixed=False)
    return code


def _coded(core: str, *, prefixed: bool) -> int | None:
    """Return the code of a text that may follow the word stage."""
    word = core.replace(" ", "")
    if prefixed and word in ("0", "1", "2", "3", "4"):
        return min(int(word), 3)
    if prefixed and word in _ROMAN:
        return min(_ROMAN[word], 3)
    return _CODES.get(word)


def is_event(text: str) -> bool:
    """Tell whether a text is a known event, which may lie inside a stage.

    Arousals, respiration, movements by their kind, lights, what the recorder notes, and WFDB's
    pairs in brackets.

    Examples
    --------
    >>> [is_event(text) for text in ("(arousal_rera", "Lights off", "Limb Movement (Left)", "N5")]
    [True, True, True, False]
    """
    return _is_paired(text) or _EVENT.search(plain_text(text)) is not None


def _is_paired(text: str) -> bool:
    """Tell whether a text is one of WFDB's pairs, ``(event`` and ``event)``."""
    text = text.strip()
    return (text[:1] == "(") != (text[-1:] == ")") and text.count("(") != text.count(")")


def edf_text(name: str) -> str:
    """Return EDF+'s text of a stage, ``Sleep stage R``; of another class its name.

    Examples
    --------
    >>> edf_text("N1"), edf_text("apnea")
    ('Sleep stage N1', 'apnea')
    """
    return f"Sleep stage {name}" if name in STAGES else name
