"""Strict settings: what a YAML file or --set may hold, and the sentence for what it may not."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from biopart import settings
from biopart.settings import Strict, apply_change, checked, dump_yaml, find, read_yaml


class Inner(Strict):
    rate: float = 1.0


class Outer(Strict):
    count: int = 3
    inner: Inner = Inner()


def test_an_unknown_key_is_named_with_the_allowed_ones_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"^x: unknown key 'cuont'; allowed: count, inner; did"):
        checked(Outer, {"cuont": 3}, "x")
    with pytest.raises(ValueError, match="did you mean count"):
        checked(Outer, {"cuont": 3}, "x")


def test_a_key_like_none_of_the_allowed_gets_no_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown key 'zzz'; allowed: count, inner$"):
        checked(Outer, {"zzz": 3}, "x")


def test_an_unknown_key_of_a_group_is_named_with_the_group() -> None:
    with pytest.raises(ValueError, match=r"^x: inner: unknown key 'rat'; allowed: rate; did you"):
        checked(Outer, {"inner": {"rat": 3}}, "x")


def test_a_key_that_is_no_text_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="unknown key 7"):
        checked(Outer, {7: 3}, "x")  # type: ignore[dict-item]


@pytest.mark.parametrize("value", ["three", 2.5, [3], None])
def test_a_wrong_type_is_named_with_what_was_given(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^x: count is .*; give a whole number$") as error:
        checked(Outer, {"count": value}, "x")
    assert str(error.value).startswith(f"x: count is {'null' if value is None else repr(value)};")


@pytest.mark.parametrize("value", [5, "abc", [1]])
def test_a_value_in_the_place_of_a_group_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^x: inner is .*; give a group of keys$"):
        checked(Outer, {"inner": value}, "x")


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(
        ValueError,
        match=r"^x: count is 'a'; give a whole number; also inner\.rate is 'b'; give a number$",
    ):
        checked(Outer, {"count": "a", "inner": {"rate": "b"}}, "x")


class Small(Strict):
    kind: Literal["small"] = "small"


class Large(Strict):
    kind: Literal["large"] = "large"
    size: int = Field(2, multiple_of=2)


class Every(Strict):
    title: str
    word: Literal["one", "two"] = "one"
    names: list[str] = Field(["a"], min_length=1, max_length=2)
    pair: tuple[float, float] = (0.0, 1.0)
    share: float = Field(0.5, gt=0, lt=1)
    depth: int = Field(1, ge=1, le=9)
    switch: bool = False
    device: str = Field("cpu", pattern=r"^(cpu|gpu)$")
    threads: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    part: Annotated[Small | Large, Field(discriminator="kind")] = Small()
    scores: dict[Literal["a", "b"], float] = Field({})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"word": "three"}, "word is 'three'; give 'one' or 'two'"),
        ({"word": None}, "word is null; give 'one' or 'two'"),
        ({"names": "a"}, "names is 'a'; give a list"),
        ({"names": []}, "names is []; give 1 or more values"),
        ({"names": [1]}, "names.0 is 1; give text"),
        ({"names": ["a", "b", "c"]}, "names is ['a', 'b', 'c']; give at most 2 values"),
        ({"pair": [1]}, "pair.1 is missing"),
        ({"pair": 1}, "pair is 1; give a list"),
        ({"share": 0}, "share is 0; give more than 0"),
        ({"share": 1.0}, "share is 1.0; give less than 1"),
        ({"depth": 0}, "depth is 0; give 1 or more"),
        ({"depth": 10}, "depth is 10; give 9 or less"),
        ({"depth": True, "switch": 3}, "switch is 3; give true or false"),
        ({"device": "tpu"}, "device is 'tpu'; give text of the form cpu|gpu"),
        ({"threads": 0}, "threads is 0; give 'auto' or 1 or more"),
        ({"threads": "all"}, "threads is 'all'; give 'auto' or a whole number"),
        ({"part": {"kind": "huge"}}, "part.kind is 'huge'; give one of 'small', 'large'"),
        ({"part": {"kind": "large", "size": 3}}, "part.size is 3; give a multiple of 2"),
        ({"part": {"size": 3}}, "part.kind is missing"),
        ({"scores": {"c": 1}}, "scores: unknown key 'c'; allowed: 'a' or 'b'"),
    ],
)
def test_a_sentence_states_what_was_given_and_what_is_allowed(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^x: {re.escape(sentence)}$"):
        checked(Every, {"title": "t", **values}, "x")


def test_missing_keys_are_named_together() -> None:
    class Pair(Strict):
        left: int
        right: int

    with pytest.raises(ValueError, match=r"^x: title is missing$"):
        checked(Every, {}, "x")
    with pytest.raises(ValueError, match=r"^x: left, right are missing$"):
        checked(Pair, {}, "x")


@pytest.mark.parametrize("rate", [float("nan"), float("inf")])
def test_a_number_must_be_finite(rate: float) -> None:
    with pytest.raises(ValueError, match=r"inner\.rate is (nan|inf); give a finite number$"):
        checked(Outer, {"inner": {"rate": rate}}, "x")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer().count = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-.5E+3", -500.0),
        ("2.e1", 20.0),
        ("6.0e-4", 0.0006),
        ("'1e-3'", "1e-3"),
        ("1e", "1e"),
        ("nan", "nan"),
        ("12", 12),
        ("[1e-3, 2, a]", [0.001, 2, "a"]),
        ("{b: 1e2}", {"b": 100.0}),
        ("null", None),
        ("true", True),
        ("a=b", "a=b"),
    ],
)
def test_a_change_is_read_as_yaml(text: str, value: Any) -> None:
    values: dict[str, Any] = {}
    apply_change(values, f"key={text}")
    assert values == {"key": value}
    assert type(values["key"]) is type(value)


def test_a_dotted_key_makes_groups_and_leaves_their_other_keys() -> None:
    values: dict[str, Any] = {"a": {"b": {"c": 1, "d": 2}}}
    apply_change(values, " a.b.c =5")
    apply_change(values, "x.y=6")
    assert values == {"a": {"b": {"c": 5, "d": 2}}, "x": {"y": 6}}


@pytest.mark.parametrize("change", ["trim_s", "=3", " =3"])
def test_a_change_without_key_or_value_is_refused(change: str) -> None:
    with pytest.raises(ValueError, match="--set takes KEY=VALUE, got"):
        apply_change({}, change)


def test_a_change_that_gives_nothing_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^--set a.b= has no value; give one, or a.b=null where null is allowed$"
    ):
        apply_change({}, "a.b=")


def test_a_change_inside_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="count is a value, not a group of keys"):
        apply_change({"count": 3}, "count.inner=4")


@pytest.mark.parametrize("text", ["[1", "{a: 1, a: 2}"])
def test_a_change_that_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a YAML value"):
        apply_change({}, f"a={text}")


def test_a_file_is_read_with_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 1e-3\nname: größe\n", "utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"lr": 0.001, "name": "größe"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0100", 100), ("1:30", "1:30"), ("1e-3", 0.001), ("0x1F", 31), ("0o17", 15)),
        *(("no", "no"), ("On", "On"), ("true", True), ("~", None), ("", None), ("-.5", -0.5)),
        *(("2020-01-01", "2020-01-01"), ('"08"', "08"), ("08", 8), (".inf", float("inf"))),
        (r'"\ud83d\udcf7"', "\U0001f4f7"),
    ],
)
def test_values_are_those_of_yaml_1_2_and_survive_writing(
    tmp_path: Path, text: str, value: object
) -> None:
    (tmp_path / "a.yaml").write_text(f"a: {text}\n", "utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": value}
    (tmp_path / "b.yaml").write_text(dump_yaml({"a": value}), "utf-8")
    assert read_yaml(tmp_path / "b.yaml") == {"a": value}


def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("name: t\npretrain: {lr: 1}\nb: 1\npretrain: {batch: 8}\n")
    with pytest.raises(
        ValueError, match=r"the key 'pretrain' occurs more than once, in lines 2 and 4"
    ):
        read_yaml(tmp_path / "a.yaml")


def test_an_empty_section_is_as_if_it_were_not_there() -> None:
    class Inner(Strict):
        steps: int = 5

    class Outer(Strict):
        inner: Inner = Inner()
        path: settings.UserPath = Path("x")

    assert checked(Outer, {"inner": None}, "recipe").inner.steps == 5
    assert checked(Outer, {"path": "~/x"}, "recipe").path == Path.home() / "x"
    with pytest.raises(ValueError, match=r"inner\.steps is null; give a whole number$"):
        checked(Outer, {"inner": {"steps": None}}, "recipe")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", r"a\.yaml is not YAML: .*line 1"),
        (b"a: \xff", r"a\.yaml is not YAML: 'utf-8'"),
        (b"a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"- 1\n- 2", "must have 'key: value' lines; it has a list"),
        (b"", "it has a NoneType"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_yaml(tmp_path / "a.yaml")


@pytest.fixture
def one_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a shipped card ``one`` and stand in an empty folder."""
    shipped = tmp_path / "shipped" / "datasets" / "one.yaml"
    shipped.parent.mkdir(parents=True)
    shipped.write_text("a: 1")
    monkeypatch.setattr(settings, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return shipped


@pytest.mark.parametrize("name", ["one", "datasets/one.yaml"])
def test_a_shipped_file_is_found_by_its_name(one_shipped: Path, name: str) -> None:
    assert find(name, "datasets") == one_shipped


@pytest.mark.parametrize("name", ["one.yaml", "mine/one.yaml", "./mine/one", "datasets/one.yaml"])
def test_a_path_that_is_not_there_is_never_replaced_by_a_shipped_file(
    one_shipped: Path, name: str
) -> None:
    Path("datasets").mkdir()
    with pytest.raises(FileNotFoundError, match=r"the shipped one is named one, without"):
        find(name, "datasets")


def test_a_path_comes_before_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mitdb.yaml").write_text("a: 1")
    monkeypatch.chdir(tmp_path)
    assert find("mitdb.yaml", "datasets") == Path("mitdb.yaml")


def test_a_missing_file_is_refused_with_the_shipped_names() -> None:
    names = (
        "ade20k_masks, audio_digits, audio_digits_mfcc, cifar10, cifar100, cifar10_folders, "
        "coco_parts, cub_parts, davis_video, eegmat, imagenet, imagenet100, lip_masks, mitdb, "
    )
    names += (
        "pascal_parts, physionet2018, sleep_edf, sleep_edf20, speech_commands, ucddb_windows, "
        "wearable"
    )
    with pytest.raises(
        FileNotFoundError, match=f"shhs does not exist; the shipped cards are {names}"
    ):
        find("shhs", "datasets")
    with pytest.raises(
        FileNotFoundError, match=r"did you mean mitdb\? All names: biopart list cards$"
    ):
        find("mitbd", "datasets")
    with pytest.raises(FileNotFoundError, match=r"absent/a\.edf does not exist; give the path"):
        find("absent/a.edf", "datasets")


def test_a_file_is_loaded_with_changes_and_named_in_errors(tmp_path: Path) -> None:
    class Size(settings.Strict):
        size: int = 1

    (tmp_path / "one.yaml").write_text("size: 2\n")
    assert settings.load(Size, tmp_path / "one.yaml", "card").size == 2
    assert settings.load(Size, tmp_path / "one.yaml", "card", ["size=5"]).size == 5
    with pytest.raises(ValueError, match=r"card one\.yaml: size is 'x'; give a whole number$"):
        settings.load(Size, tmp_path / "one.yaml", "card", ["size=x"])
