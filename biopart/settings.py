"""Strict settings from YAML: one clear sentence for every mistake."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

SHIPPED = Path(__file__).parents[0] / "shipped"
CHECKOUT = Path(__file__).parents[1]

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """The safe loader with the numbers and words of YAML 1.2's core schema, without repeated keys.

    In PyYAML's YAML 1.1 0100 is 64, 1:30 is 90, 1e-3 is text and ``no`` is false.
    """


_Loader.yaml_implicit_resolvers = {}  # none of YAML 1.1's


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2].lower() in ("0x", "0o") else int(text)


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(
        loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan")
    )


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    """Read text; rejoin the halves of a character that JSON writes as two escapes."""
    text = str(loader.construct_scalar(node))
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    """Read a mapping without repeated keys."""
    values = loader.construct_mapping(node, deep=True)
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        lines = [key.start_mark.line + 1 for key, _ in node.value]
        places = [str(line) for key, line in zip(keys, lines, strict=True) if key == twice[0]]
        raise ValueError(
            f"the key {twice[0]!r} occurs more than once, in lines {' and '.join(places)}"
        )
    return values


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|"
        r"\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )
for _tag, _reader in (("int", _whole), ("float", _real), ("str", _text), ("map", _mapping)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _reader)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes text that either version of YAML would read as a number."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, []),
        *_Loader.yaml_implicit_resolvers.get(first, []),
    ]
    for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(values: Any) -> str:
    """Write values as YAML that reads back unchanged.

    Examples
    --------
    >>> dump_yaml({"persons": ["08", "1e3", "no"]}).split()
    ['persons:', '-', "'08'", '-', "'1e3'", '-', "'no'"]
    """
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class Strict(BaseModel):
    """A settings model that refuses unknown keys and cannot be changed.

    Attributes
    ----------
    dropped : tuple of str
        Keys that older files have and that mean nothing any more; they are passed over.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    dropped: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        """Name an unknown key, the allowed ones and the nearest of them."""
        fields = cls.model_fields
        if isinstance(values, dict):
            values = {key: value for key, value in values.items() if key not in cls.dropped}
        unknown = [key for key in values if key not in fields] if isinstance(values, dict) else []
        if unknown:
            allowed = sorted(cls.model_fields)
            nearest = difflib.get_close_matches(str(unknown[0]), allowed, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(f"unknown key {unknown[0]!r}; allowed: {', '.join(allowed)}{hint}")
        if isinstance(values, dict):  # an empty section counts as absent
            values = {
                key: value
                for key, value in values.items()
                if value is not None or not _is_section(fields[key].annotation)
            }
        return values

    def changed(self, *keys: str) -> list[str]:
        """Return those keys that were given a value other than the default.

        A resolved recipe gives every key; a default has no effect wherever it is given.
        """
        fields = type(self).model_fields
        given = [key for key in keys if key in self.model_fields_set]
        return [key for key in given if getattr(self, key) != fields[key].default]


def no_effect(keys: Sequence[str]) -> str:
    """Say that keys have no effect.

    Examples
    --------
    >>> no_effect(["heads"]), no_effect(["sides", "size_target"])
    ('heads has no effect; leave it out', 'sides and size_target have no effect; leave them out')
    """
    verb, them = ("has", "it") if len(keys) == 1 else ("have", "them")
    return f"{' and '.join(keys)} {verb} no effect; leave {them} out"


def _is_section(annotation: Any) -> bool:
    """Distinguish a section of settings, or a choice of several, from a plain value."""
    kinds = get_args(annotation) if get_origin(annotation) is not None else (annotation,)
    if get_origin(annotation) is Annotated:
        return _is_section(kinds[0])
    return all(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _expanded(path: Path) -> Path:
    """Expand ``~`` in a path to the home folder."""
    return path.expanduser()


UserPath = Annotated[Path, AfterValidator(_expanded)]


def shipped(folder: str) -> list[Path]:
    """Return the shipped YAML files of ``recipes`` or ``datasets``, sorted by name."""
    return sorted(_shipped(folder).glob("*.yaml"))


def _shipped(folder: str) -> Path:
    return SHIPPED / folder if (SHIPPED / folder).is_dir() else CHECKOUT / folder


def find(name: str | Path, folder: str) -> Path:
    """Return the path of a YAML file, given as a path or as the name of a shipped file.

    ``recipes/demo.yaml`` also means the shipped file, unless the current folder has a folder
    ``recipes``. Any other path that does not exist is never replaced by a shipped file.

    Raises FileNotFoundError; for a name without a folder or suffix, with the nearest of the shipped
    names, or all of them if none is near.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    folder_of = _shipped(folder)
    named = folder_of / f"{path.name}.yaml"
    if path.name == str(name) and not path.suffix and named.is_file():
        return named
    named = folder_of / path.name
    if path.parent == Path(folder) and not path.parent.exists() and named.is_file():
        return named
    raise FileNotFoundError(absent(name, folder))


def absent(name: str | Path, *folders: str) -> str:
    """Say that a file does not exist, what is shipped instead and which name is nearest."""
    path = Path(name).expanduser()
    kinds = {folder: "cards" if folder == "datasets" else folder for folder in folders}
    names = {folder: [file.stem for file in shipped(folder)] for folder in folders}
    every = [stem for stems in names.values() for stem in stems]
    where = " and ".join(f"biopart list {kind}" for kind in kinds.values())
    if path.stem in every:
        return (
            f"{name} does not exist; the shipped one is named {path.stem}, without folder or .yaml"
        )
    if path.name != str(name) or path.suffix not in ("", ".yaml", ".yml"):
        return f"{name} does not exist; give the path of an existing file"
    if close := difflib.get_close_matches(path.stem, every, n=1):
        return f"{name} does not exist; did you mean {close[0]}? All names: {where}"
    lists = [f"the shipped {kinds[f]} are {', '.join(stems)}" for f, stems in names.items()]
    return f"{name} does not exist; {'; '.join(lists)}"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely; ValueError names the file and line of a mistake."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8-sig"), _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must have 'key: value' lines; it has a {type(values).__name__}")
    return values


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set a dotted key in nested mappings from ``a.b=value``, with the value read as YAML.

    Examples
    --------
    >>> values = {"a": {"b": 1}}
    >>> apply_change(values, "a.b=[2, 3]")
    >>> values
    {'a': {'b': [2, 3]}}
    """
    key, separator, text = change.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set takes KEY=VALUE, got {change!r}")
    if not text.strip():
        raise ValueError(
            f"--set {change} has no value; give one, or {key.strip()}=null where null is allowed"
        )
    *groups, last = key.strip().split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise ValueError(f"--set {change}: {group} is a value, not a group of keys")
        values = inner
    try:
        values[last] = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"--set {change}: {text!r} is not a YAML value") from error


def combinations(grid: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Yield every combination of the values of dotted keys, and as ``a.b=value`` settings.

    Examples
    --------
    >>> list(combinations({"a.b": [1, 2]}))
    [({'a.b': 1}, ['a.b=1']), ({'a.b': 2}, ['a.b=2'])]
    """
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        yield chosen, changes_of(chosen)


def changes_of(values: Mapping[str, Any]) -> list[str]:
    """Return dotted keys and their values as ``a.b=value`` settings."""
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]


_KINDS = {
    "bool": "true or false",
    "dict": "a group of keys",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a group of keys",
    "model_attributes": "a group of keys",
    "path": "a path",
    "string": "text",
    "tuple": "a list",
}
_ALLOWED = {f"{kind}_{end}": words for kind, words in _KINDS.items() for end in ("type", "parsing")}
_ALLOWED |= {
    "int_from_float": "a whole number",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "multiple_of": "a multiple of {multiple_of}",
    "too_short": "{min_length} or more values",
    "too_long": "at most {max_length} values",
    "string_pattern_mismatch": "text of the form {pattern}",
}
"""Pydantic's type of a fault -> what is allowed, with the values of the fault's context."""


def checked(model: type[Model], values: dict[str, Any], what: str) -> Model:
    """Validate values; ValueError names each wrong key, its value and what is allowed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError(f"{what}: {'; also '.join(_sentences(error.errors(), values))}") from None


def _sentences(faults: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each wrong key: what was given and what is allowed."""
    missing = []
    given: dict[str, list[str]] = {}  # the start of a sentence -> what is allowed
    for fault in faults:
        kind, value, context = fault["type"], fault["input"], fault.get("ctx", {})
        key = _key_of(fault["loc"], values)
        discriminator = str(context.get("discriminator", "")).strip("'")
        allowed = _ALLOWED.get(kind, "").format(**{k: _short(v) for k, v in context.items()})
        if kind == "missing":
            missing.append(".".join(filter(None, (key, str(fault["loc"][-1])))))
        elif kind == "union_tag_not_found":
            missing.append(f"{key}.{discriminator}")
        elif kind == "value_error":
            message = fault["msg"].removeprefix("Value error, ")
            given.setdefault(f"{key}: {message}" if key else message, [])
        elif fault["loc"][-1:] == ("[key]",) and allowed:
            group = key.rpartition(".")[0]
            given.setdefault(f"{group}: unknown key {value!r}; allowed: {allowed}", [])
        elif not allowed:
            given.setdefault(f"{key}: {fault['msg']}, got {value!r}", [])
        else:
            if kind == "union_tag_invalid":  # the settings of one of several objectives
                key, value = f"{key}.{discriminator}", context["tag"]
            given.setdefault(f"{key} is {_spelled(value)}", []).append(allowed)
    sentences = [
        f"{start}; give {' or '.join(dict.fromkeys(allowed))}" if allowed else start
        for start, allowed in given.items()
    ]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        sentences.insert(0, f"{', '.join(missing)} {verb} missing")
    return sentences


def _key_of(loc: Sequence[str | int], values: Any) -> str:
    """Return the dotted key of a fault, without the members of a union, which are not keys."""
    key = []
    for part in loc:
        at_place = isinstance(values, list | tuple) and part in range(len(values))
        if at_place or (isinstance(values, Mapping) and part in values):
            values = values[part]
            key.append(str(part))
    return ".".join(key)


def _spelled(value: Any) -> str:
    """Return a value as YAML spells it."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else repr(value)


def _short(value: Any) -> str:
    """Return a limit of a fault without a needless .0, a pattern without its anchors."""
    if isinstance(value, float):
        return f"{value:g}"
    return re.sub(r"^\^\(?|\)?\$$", "", str(value)) if str(value).startswith("^") else str(value)


def load(model: type[Model], path: Path, what: str, changes: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply ``key=value`` settings and check it; ``what`` names it in errors."""
    values = read_yaml(path)
    for change in changes:
        apply_change(values, change)
    return checked(model, values, f"{what} {path.name}")
