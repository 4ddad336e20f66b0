"""CITATION.cff is valid CFF 1.2.0, as far as its schema demands of what we use, and complete."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import biopart

FILE = Path(__file__).parents[1] / "CITATION.cff"
# The headings of METHODS.md, and PhysioNet.
CITED = {
    "PART": "arXiv:2506.03682",
    "MP3": "arXiv:2207.07611",
    "MAE": "arXiv:2111.06377",
    "DropPos": "arXiv:2309.03576",
    "SelfPatch": "arXiv:2206.07990",
    "CO-SSL": "arXiv:2501.02860",
    "Part-aware evaluation": "arXiv:2301.11915",
    "PhysioNet": "10.1161/01.CIR.101.23.e215",
}
# Keys of CFF 1.2.0 (github.com/citation-file-format, schema-guide.md) that we use.
ROOT_KEYS = {
    "abstract",
    "authors",
    "cff-version",
    "keywords",
    "license",
    "message",
    "references",
    "title",
    "type",
    "version",
}
REFERENCE_KEYS = {
    "authors",
    "doi",
    "end",
    "identifiers",
    "issue",
    "journal",
    "notes",
    "start",
    "title",
    "type",
    "url",
    "volume",
    "year",
}


@pytest.fixture(scope="module")
def citation() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return values


def test_required_keys_are_there_and_no_unknown_one(citation: dict[str, Any]) -> None:
    assert {"cff-version", "message", "title", "authors"} <= set(citation) <= ROOT_KEYS
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"


def test_version_and_licence_are_those_of_the_package(citation: dict[str, Any]) -> None:
    assert str(citation["version"]) == biopart.__version__
    assert citation["license"] == "Apache-2.0"


def test_references_have_what_cff_requires(citation: dict[str, Any]) -> None:
    for reference in citation["references"]:
        assert {"type", "title", "authors"} <= set(reference) <= REFERENCE_KEYS
        assert reference["type"] == "article"
        assert isinstance(reference["year"], int)
        assert {i["type"] for i in reference["identifiers"]} <= {"doi", "url", "swh", "other"}


def test_authors_are_persons_with_both_names(citation: dict[str, Any]) -> None:
    for reference in citation["references"]:
        names = [(who["given-names"], who["family-names"]) for who in reference["authors"]]
        assert len(set(names)) == len(names)
        assert all(set(who) == {"given-names", "family-names"} for who in reference["authors"])


def test_every_method_and_physionet_are_cited(citation: dict[str, Any]) -> None:
    found = {r["notes"]: i["value"] for r in citation["references"] for i in r["identifiers"]}
    assert found == CITED


@pytest.mark.parametrize("key", ["url", "doi"])
def test_addresses_agree_with_identifiers(citation: dict[str, Any], key: str) -> None:
    for reference in citation["references"]:
        number = re.search(r"arxiv\.org/abs/(\S+)|^(10\..+)$", str(reference.get(key, "")))
        if number:
            (identifier,) = reference["identifiers"]
            assert identifier["value"].removeprefix("arXiv:") == (number[1] or number[2])
