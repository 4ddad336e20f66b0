"""Strict settings from YAML: one clear sentence for whatever is wrong with them."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

SHIPPED = Path(__file__).parents[1] / "shipped"
CHECKOUT = Path(__file__).parents[2]

Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """The safe loader, to which 1e-3 is a number, as in YAML 1.2; in YAML 1.1 it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


class Strict(BaseModel):
    """A settings model that refuses unknown keys and cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        """Name an unknown key, the allowed ones and the nearest of them."""
        known = cls.model_fields
        unknown = [key for key in values if key not in known] if isinstance(values, dict) else []
        if unknown:
            allowed = sorted(cls.model_fields)
            nearest = difflib.get_close_matches(str(unknown[0]), allowed, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(f"unknown key {unknown[0]!r}; allowed: {', '.join(allowed)}{hint}")
        return values


def find(name: str | Path, folder: str) -> Path:
    """Return the path of a YAML file given as a path or as the name of a shipped one.

    Raises FileNotFoundError naming the shipped ones.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = SHIPPED / folder if (SHIPPED / folder).is_dir() else CHECKOUT / folder
    for candidate in (shipped / path.name, shipped / f"{path.name}.yaml"):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(entry.stem for entry in shipped.glob("*.yaml")))
    raise FileNotFoundError(f"no file {name}; the shipped {folder} are {names}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping safely; ValueError names the file and the line of a fault."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold 'key: value' lines; it holds a {type(values).__name__}")
    return values


def apply_change(values: dict[str, Any], change: str) -> None:
    """Set a dotted key in nested mappings from ``a.b=value``, the value read as YAML.

    Examples
    --------
    >>> values = {"a": {"b": 1}}
    >>> apply_change(values, "a.b=[2, 3]")
    >>> values
    {'a': {'b': [2, 3]}}
    """
    key, separator, text = change.partition("=")
    if not separator or not key.strip():
        raise ValueError(f"--set takes key=value, for instance trim_s=0; got {change!r}")
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


def checked(model: type[Model], values: dict[str, Any], what: str) -> Model:
    """Validate values; ValueError names each key at fault, what it got and what is allowed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            key = ".".join(str(part) for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "union_tag_invalid":  # the settings of one objective or another
                key, fault["input"] = f"{key}.name", fault["ctx"]["tag"]
                message = f"give one of {fault['ctx']['expected_tags']}"
            got = "" if fault["type"] in ("value_error", "missing") else f", got {fault['input']!r}"
            faults.append(f"{key}: {message}{got}" if key else f"{message}{got}")
        raise ValueError(f"{what}: {'; '.join(faults)}") from None


def load(model: type[Model], path: Path, what: str, changes: Sequence[str] = ()) -> Model:
    """Read a YAML file, apply ``key=value`` settings and check it; ``what`` names it in errors."""
    values = read_yaml(path)
    for change in changes:
        apply_change(values, change)
    return checked(model, values, f"{what} {path.name}")
