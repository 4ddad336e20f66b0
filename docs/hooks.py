"""Generate the pages on commands, recipes and data sets for mkdocs."""

from pathlib import Path

import click
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from biopart.cli import main

ROOT = Path(__file__).parents[1]
COMMANDS = """# Commands

Progress goes to stderr, results to stdout; `--json` prints them as JSON. Exit status: 0 success, 1
failure, 2 wrong use."""
RECIPES = """# Recipes

Shipped with the package: `biopart pretrain NAME`. `--set encoder.dim=256` changes any value;
`biopart info --schema` prints all keys."""
DATASETS = """# Data sets

A card describes a data set. `biopart prepare CARD --raw FOLDER --out STORE` creates a store.
CARD is a name from this page or the path of your own card."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every command in the navigation."""
    pages = [{name: f"commands/{name}.md"} for name in sorted(main.commands)]
    for entry in config.nav or []:
        if "Commands" in entry:
            entry["Commands"] = [{"All": "commands/index.md"}, *pages]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages before mkdocs reads its navigation."""
    made = {f"commands/{name}.md": command_page(name) for name in sorted(main.commands)}
    made |= {"commands/index.md": commands_page(), "recipes.md": recipes_page()}
    made["datasets.md"] = datasets_page()
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def command_page(name: str) -> str:
    """Describe a command from its help text."""
    command = main.commands[name]
    context = click.Context(command, info_name=f"biopart {name}")
    lines = [f"# biopart {name}", "", command.help or "", "", "```", command.get_usage(context)]
    lines += ["```", "", "| option | meaning |", "|---|---|"]
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            option, meaning = (text.replace("|", "\\|") for text in record)
            lines.append(f"| `{option}` | {meaning} |")
    return "\n".join(lines)


def commands_page() -> str:
    """List the commands."""
    lines = [COMMANDS, "", "| command | what it does |", "|---|---|"]
    for name, command in sorted(main.commands.items()):
        lines.append(f"| [{name}]({name}.md) | {command.help} |")
    return "\n".join(lines)


def recipes_page() -> str:
    """Show every recipe with the comment at its top."""
    lines = [RECIPES, ""]
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        head, rest = split(path)
        lines += [f"## {path.stem}", "", "```text", *head, "```", "", "```yaml", *rest, "```", ""]
    return "\n".join(lines)


def datasets_page() -> str:
    """Show every card, and how to obtain its raw files."""
    lines = [DATASETS, ""]
    for path in sorted((ROOT / "datasets").glob("*.yaml")):
        head, rest = split(path)
        card = yaml.safe_load("\n".join(rest))
        how = "No download address: put its files into RAW yourself."
        if card.get("origin"):
            how = f"Download with `biopart fetch {path.stem} --to RAW`."
        lines += [f"## {path.stem}", "", f"{card['title']}. {card['citation']}. Licence: "]
        lines += [f"{card['licence']}. {how}", "", "```text", *head, "```", "", "```yaml", *rest]
        lines += ["```", ""]
    return "\n".join(lines)


def split(path: Path) -> tuple[list[str], list[str]]:
    """Split a file into the comment at its top, without comment signs, and the rest."""
    lines = path.read_text().splitlines()
    count = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:count]], lines[count:]
