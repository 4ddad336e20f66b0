"""The frozen command line: scripts rely on it, so a change of it is a change of this table."""

from pathlib import Path

import click
import pytest

from biopart.cli import main

COMMON = ["--json", "--quiet"]
# ARGUMENT or [ARGUMENT] where it may be left out; --option KIND=default; ! = must be given;
# ... = may be given again; no kind = a switch.
TABLE = {
    "bench": ["signals|images|part|objectives|teachers|gpu|beside", "--repeats integer=5"],
    "check": [
        "WHAT",
        "--leak",
        "--artefacts directory",
        "--raw directory",
        "--cache directory",
        "--cache-gb float",
    ],
    "curve": [
        "RECIPE",
        "--methods text",
        "--sizes/--subjects text",
        "--lengths text",
        "--repeats integer",
        "--store path",
        "--run directory...",
        "--out directory",
        "--jobs integer=1",
        "--scheduler text",
        "--retry",
        "--set text...",
        "--dry-run",
        "--cache directory",
        "--cache-gb float",
    ],
    "demo": ["--out directory=demo"],
    "detect": [
        "[RECIPE]",
        "--images directory",
        "--weights text",
        "--set text...",
        "--out directory",
        "--resume",
        "--devices integer",
        "--nodes integer",
        "--strategy ddp|fsdp",
        "--dry-run",
    ],
    "embed": [
        "WHAT",
        "--run directory",
        "--out path!",
        "--patches",
        "--device text=auto",
        "--jobs integer=1",
        "--scheduler text",
        "--cache directory",
        "--cache-gb float",
    ],
    "evaluate": [
        "--run directory",
        "--store path!",
        "--persons text",
        "--device text=auto",
        "--cache directory",
        "--cache-gb float",
    ],
    "export": [
        "RUN",
        "--to safetensors|timm|onnx|hub!",
        "--out path!",
    ],
    "fetch": ["CARD", "--to directory!", "--records integer", "--set text..."],
    "finetune": [
        "--run directory",
        "--subjects integer",
        "--seed integer",
        "--from-scratch",
        "--context integer",
        "--set text...",
        "--store path",
        "--devices integer",
        "--nodes integer",
        "--strategy ddp|fsdp",
        "--dry-run",
        "--cache directory",
        "--cache-gb float",
    ],
    "info": ["[WHAT]", "--schema", "--cache directory", "--cache-gb float"],
    "prepare": [
        "CARD",
        "--raw directory!",
        "--out path!",
        "--jobs integer=1",
        "--scheduler text",
        "--layout training|archive",
        "--set text...",
        "--verify",
    ],
    "pretrain": [
        "[RECIPE]",
        "--set text...",
        "--out directory",
        "--resume",
        "--device text",
        "--devices integer",
        "--nodes integer",
        "--strategy ddp|fsdp",
        "--dry-run",
        "--cache directory",
        "--cache-gb float",
    ],
    "list": ["recipes|cards|objectives|encoders"],
    "probe": [
        "--run directory",
        "--subjects integer",
        "--seed integer",
        "--set text...",
        "--store path",
        "--robustness",
        "[ENCODERS...]",
        "--suite part-aware",
        "--data path",
        "--raw path",
        "--weights path...",
        "--items integer",
        "--query-in-gallery",
        "--baseline text",
        "--out path",
        "--jobs integer=1",
        "--scheduler text",
        "--cache directory",
        "--cache-gb float",
    ],
    "report": ["RUNS...", "--out path=report.html"],
    "runs": ["[FOLDER]"],
    "segment": [
        "[RECIPE]",
        "--raw directory",
        "--weights text",
        "--set text...",
        "--out directory",
        "--resume",
        "--devices integer",
        "--nodes integer",
        "--strategy ddp|fsdp",
        "--dry-run",
    ],
    "serve": [
        "RUN",
        "--host text=127.0.0.1",
        "--port integer=8000",
        "--token text",
        "--limit-mb integer=500",
        "--keep-min float=60",
    ],
    "show": [
        "[RUN]",
        "--view reconstruction|uncertainty|symmetry|scale|attention|similarity...",
        "--items integer=3",
        "--store path",
        "--out directory",
        "--cache directory",
        "--cache-gb float",
    ],
    "simulate": [
        "FOLDER",
        "--persons integer=12",
        "--hours float=8.0",
        "--seed integer=0",
        "--format wfdb|edf=wfdb",
        "--channels text",
    ],
    "stage": [
        "NIGHT",
        "--run directory",
        "--out directory=night",
        "--channel text...",
        "--truth path",
        "--lights-off text",
        "--lights-on text",
        "--quality",
        "--codes text",
        "--bad-share float=0.5",
        "--clear",
        "--jobs integer=1",
        "--scheduler text",
        "--cache directory",
        "--cache-gb float",
    ],
    "sweep": [
        "RECIPE",
        "--over text...",
        "--repeats integer",
        "--store path",
        "--out directory",
        "--jobs integer=1",
        "--scheduler text",
        "--retry",
        "--set text...",
        "--dry-run",
        "--cache directory",
        "--cache-gb float",
    ],
}


def spelled(parameter: click.Parameter) -> str:
    """Spell a parameter as the table does."""
    kind = parameter.type.name.removesuffix(" range")
    if isinstance(parameter.type, click.Choice):
        kind = "|".join(parameter.type.choices)
    if isinstance(parameter, click.Argument):
        name = str(parameter.name).upper() if kind in ("text", "directory", "path") else kind
        name += "..." if parameter.nargs == -1 else ""
        return name if parameter.required else f"[{name}]"
    assert isinstance(parameter, click.Option)
    name = "/".join((*parameter.opts, *parameter.secondary_opts))
    if parameter.is_flag:
        return name
    default = parameter.default
    value = f"={default}" if isinstance(default, str | int | float | Path) else ""
    ending = ("!" if parameter.required else "") + ("..." if parameter.multiple else "")
    return f"{name} {kind}{value}{ending}"


def test_the_commands_are_those_of_the_table() -> None:
    assert sorted(main.commands) == sorted(TABLE)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_arguments_and_options_are_those_of_the_table(name: str) -> None:
    found = [spelled(parameter) for parameter in main.commands[name].params]
    assert found == TABLE[name] + COMMON


def test_the_entry_point_takes_version_and_help_alone() -> None:
    context = click.Context(main, **main.context_settings)
    options = {option for p in main.get_params(context) for option in p.opts}
    assert options == {"--version", "--help", "-h"}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_command_says_what_it_does_in_one_line(name: str) -> None:
    text = main.commands[name].help or ""
    assert text.endswith(".")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (click.Option(["--a", "-a"], is_flag=True), "--a/-a"),
        (click.Option(["--b"], type=int, required=True), "--b integer!"),
        (click.Option(["--c"], multiple=True), "--c text..."),
        (click.Option(["--d"], type=click.FloatRange(0, 1), default=0.5), "--d float=0.5"),
        (click.Argument(["e"], required=False), "[E]"),
        (click.Argument(["f"], nargs=-1, required=True), "F..."),
    ],
)
def test_parameters_are_spelled_by_all_that_a_script_relies_on(
    option: click.Parameter, text: str
) -> None:
    assert spelled(option) == text
