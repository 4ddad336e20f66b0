"""Montage: every rule, their order, and what is said when a channel cannot be derived."""

import pytest

from biopart.signals.montage import Derivation, montage

OTHERWISE = "same except for case, spaces, kind or separator"


def test_an_exact_name_comes_before_all_other_rules() -> None:
    found = montage(["EEG F3-M2", "F3", "M2", "F3-M2"], ["F3-M2"])
    assert found == (Derivation("F3-M2", "F3-M2", None, "exact name"),)


@pytest.mark.parametrize(
    "name", ["f3-m2", " F3 - M2", "EEG F3-M2", "eeg F3:M2", "F3/M2", "F3_M2", "F3-M2."]
)
def test_case_spaces_kind_and_separator_do_not_matter(name: str) -> None:
    assert montage(["ECG", name], ["F3-M2"]) == (
        Derivation("F3-M2", name, None, f"{name!r} ({OTHERWISE})"),
    )


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("C3-M2", "EEG C3-A2"),
        ("C4-M1", "C4:A1"),
        ("E1-M2", "EOG LOC-A2"),
        ("E2", "roc"),
        ("T7", "T3"),
        ("T4", "T8"),
        ("P7-P8", "T5-T6"),
    ],
)
def test_synonyms_of_electrodes_are_taken(wanted: str, name: str) -> None:
    found = montage([name], [wanted])[0]
    assert (found.plus, found.minus) == (name, None)
    assert found.rule == f"{name!r} (synonym of the electrodes)"


def test_the_kind_in_front_must_not_be_another() -> None:
    with pytest.raises(ValueError, match="EEG 1 cannot be derived"):
        montage(["ECG 1"], ["EEG 1"])


def test_a_mastoid_of_its_own_is_subtracted() -> None:
    found = montage(["EEG F3", "EEG C4", "A2"], ["F3-M2"])[0]
    assert (found.plus, found.minus) == ("EEG F3", "A2")
    assert found.rule == f"'EEG F3' ({OTHERWISE}) minus 'A2' (synonym of the electrodes)"


def test_channels_with_one_reference_are_subtracted() -> None:
    found = montage(["EEG C3-LE", "EEG F3-Ref", "EEG A2-Ref", "EEG M2-AV"], ["F3-M2"])[0]
    assert (found.plus, found.minus) == ("EEG F3-Ref", "EEG A2-Ref")


def test_a_channel_against_another_reference_is_not_taken() -> None:
    with pytest.raises(ValueError, match="F3-M2 cannot be derived"):
        montage(["F3-M1", "F4-M2"], ["F3-M2"])


def test_an_alias_comes_before_the_exact_name() -> None:
    found = montage(["EEG", "C4-A1"], ["EEG"], {"EEG": ["C4-A1"]})
    assert found == (Derivation("EEG", "C4-A1", None, "alias C4-A1: exact name"),)


def test_an_alias_may_be_a_difference_and_the_first_that_is_there_wins() -> None:
    found = montage(["C4", "M1"], ["EEG"], {"EEG": ["Fpz-Cz", "C4-A1"]})[0]
    assert (found.plus, found.minus) == ("C4", "M1")
    assert found.rule.startswith("alias C4-A1: 'C4' (exact name) minus 'M1'")


def test_a_name_whose_aliases_are_absent_says_so() -> None:
    found = montage(["EEG"], ["EEG"], {"EEG": ["C4-A1"]})[0]
    assert found.rule == "exact name; its aliases are not in the file: C4-A1"


def test_wanted_channels_keep_their_order() -> None:
    found = montage(["C4-M1", "F3-M2", "ECG"], ["ECG", "F3-M2", "C4-M1"])
    assert [derivation.plus for derivation in found] == ["ECG", "F3-M2", "C4-M1"]


def test_an_absent_channel_lists_the_file_and_what_was_tried() -> None:
    with pytest.raises(ValueError, match="O1-M2 cannot be derived") as caught:
        montage(["F3-M2", "ECG"], ["O1-A2", "F3-M2", "O1-M2"], {"O1-M2": ["O1"]})
    assert str(caught.value) == (
        "Channel O1-A2 cannot be derived (tried the exact name, 'o1-a2' in any case and separator, "
        "the synonym 'o1-m2', 'o1' minus 'a2', alone or with a common reference); channel O1-M2 "
        "cannot be derived (tried its aliases O1, the exact name, 'o1-m2' in any case and "
        "separator, the synonym 'o1-m2', 'o1' minus 'm2', alone or with a common reference); "
        "the file has 'F3-M2', 'ECG': name one of these as its source."
    )


def test_one_electrode_is_not_taken_for_a_derivation() -> None:
    with pytest.raises(ValueError, match="C3 cannot be derived"):
        montage(["C3-M2"], ["C3"])
