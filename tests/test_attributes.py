"""Attributes of stores: what makes two cards alike, and which cohorts are of sleep."""

from typing import Any

import pytest

from biopart.store.attributes import differences, holds_stages

STAGES = ["W", "N1", "N2", "N3", "R"]


def test_what_only_silences_a_warning_or_names_a_source_is_no_difference() -> None:
    old = {"card": {"title": "a", "labels": {"kind": "stages"}}}
    rule = {"kind": "stages", "unlabelled": ["^te"]}
    assert differences(old, {"card": {"title": "b", "labels": rule}}) == []
    assert differences(old, {"card": {"labels": {**rule, "annotation": "st"}}}) == ["card.labels"]
    assert differences(old, {**old, "epoch_s": 2.0}) == ["epoch_s"]


@pytest.mark.parametrize(
    ("card", "names", "stages"),
    [
        ({}, STAGES, True),
        ({}, ["a", "b"], False),
        ({"labels": {"kind": "stages"}}, ["wake", "sleep"], True),
        ({"labels": {"kind": "file"}}, STAGES, False),
    ],
)
def test_a_cohort_is_of_sleep_by_its_card_or_else_its_names(
    card: dict[str, Any], names: list[str], stages: bool
) -> None:
    assert holds_stages({"card": card, "label_names": names}) is stages
