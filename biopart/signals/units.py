"""Spellings of units: voltages in every common form, other known units, unknown units."""

import re
import unicodedata

MICROVOLT = {"uV": 1.0, "mV": 1e3, "V": 1e6, "nV": 1e-3}
"""Microvolts per unit of voltage."""
# Micro signs: u, the Greek letter (to which NFKC maps the micro sign), UTF-8 read as Latin-1, and
# remains of a lost one: a point, a question mark, the replacement character.
_MICRO = "(?:u|\u03bc|\u00e2?\u03bc|\u00e2|\\.|\\?|\ufffd|_|mk|\u043c\u043a|\u00e6|micro ?)"
_VOLTS = tuple(
    (re.compile(rf"{prefix}(?:v|volts?|\u0432)"), unit)
    for prefix, unit in ((_MICRO, "uV"), ("(?:m|milli ?)", "mV"), ("(?:n|nano ?)", "nV"), ("", "V"))
)
_OTHERS = (
    "% bpm 1/min /min 1/s hz degc deg c °c c k mmhg kpa pa cmh2o hpa mbar bar l/min l/s ml ml/min "
    "lpm s ms sec min h m cm mm m/s m/s2 m/s^2 g mg rad deg ° t t/m ft ft/cm s/m ms/cm us "
    "ohm kohm kω ω lux lx db a ma w j bool bit count counts arb arbitrary au a.u. nu n.u. rel "
    "none - n/a nan percent torr breaths/min beats/min"
)
_ELECTRODE = re.compile(
    r"(eeg|eog|emg|ecg|ekg)\b|(fp|af|f|fc|ft|c|cp|t|tp|p|po|o|a|m|e)(z|\d{1,2})(\b|-|:|/)|"
    r"(loc|roc|chin)",
    re.IGNORECASE,
)


def unit_name(text: str) -> str:
    """Spell a unit as biopart does: ``uV``, ``mV``, ``V`` or ``nV``, everything else as given.

    Examples
    --------
    >>> [unit_name(text) for text in (" UV ", "µVolt", "mVolt", ".V", "microvolts", "mmHg")]
    ['uV', 'uV', 'mV', 'uV', 'uV', 'mmHg']
    """
    plain = unicodedata.normalize("NFKC", text.strip()).casefold().strip("[]()")
    for pattern, unit in _VOLTS:
        if pattern.fullmatch(plain):
            return unit
    return text.strip()


def is_known_unit(unit: str) -> bool:
    """Tell whether the meaning of a unit is known, or whether it is empty.

    Examples
    --------
    >>> is_known_unit("uV"), is_known_unit("%"), is_known_unit(""), is_known_unit("mikroV")
    (True, True, True, False)
    """
    return not unit or unit in MICROVOLT or unit.casefold() in _OTHERS.split()


def is_electrode(name: str) -> bool:
    """Tell from its name whether a channel is an electrode, so that its values are a voltage.

    Examples
    --------
    >>> is_electrode("EEG C3-A2"), is_electrode("Fpz-Cz"), is_electrode("SaO2")
    (True, True, False)
    """
    return _ELECTRODE.match(name.strip()) is not None
