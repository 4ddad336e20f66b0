"""The floors of the house and the sizes of its rooms (DESIGN.md, STYLE.md section 5), as tests."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

PACKAGE = Path(__file__).parents[1] / "biopart"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "shipped" not in path.parts)

# DESIGN.md's table, where views lie a floor lower than here: they change the batches of data.
# Added to it: compute (the machine that a training uses) and terminal (what a
# command prints), and estimators (for
# scikit-learn). The package's own __init__ is exempt: it loads public names when asked for.
FLOORS = {
    "__main__": 12,
    "cli": 11,
    "studies": 10,
    "estimators": 11,
    "terminal": 10,
    "verbs": 9,
    "tasks": 8,
    "probing": 8,
    "experiment": 7,
    "train": 6,
    "compute": 6,
    "recipe": 1,
    "objectives": 5,
    "views": 5,
    "data": 4,
    "signals": 3,
    "images": 3,
    "nn": 3,
    "store": 2,
    "evaluation": 1,
    "figures": 1,
    "pages": 1,
    "run": 1,
    "files": 0,
    "executor": 0,
    "addresses": 0,
    "settings": 0,
    "codes": 0,
    "grid": 0,
}
WITHOUT_TORCH = {"images", "signals", "store", "evaluation", "figures", "pages", "recipe"}
TORCH = {"torch", "torchvision", "timm", "lightning_fabric", "lightning"}
FORBIDDEN_NAMES = {"utils", "common", "helpers", "misc", "base", "core", "manager"}

LONGEST = {"train/loop.py:fit": 100}  # the training loop alone, STYLE.md section 5
CONTRACTS = {
    # Written out in DESIGN.md, so that outside scripts may call them as they stand there.
    "nn/vit.py:ViT.__init__": "ViT(shape, patch, channels, dim, depth, heads, *, ...)",
    "nn/classifier.py:Classifier.__init__": "Classifier(n_chans, n_outputs, n_times, sfreq, ...)",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def place_of(module: str) -> str:
    """Return the folder or file under biopart that a dotted module lies in."""
    return module.split(".")[1]


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, also inside functions; our own ones exactly."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                longer = f"{module}.{alias.name}"
                yield longer if longer in MODULES else module


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a file with their names, methods under their class."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            inner = f"{prefix}{child.name}" if named else prefix  # type: ignore[attr-defined]
            if isinstance(child, ast.FunctionDef):
                yield f"{name_of(path)}:{inner}", child
            yield from below(child, f"{inner}." if named else prefix)

    yield from below(ast.parse(path.read_text()), "")


def length(function: ast.FunctionDef) -> int:
    """Return the lines of a function without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        assert text.end_lineno is not None
        lines -= text.end_lineno - text.lineno + 1
    return lines


ALL = [found for path in FILES for found in functions(path)]
OURS = [path for path in FILES if path != PACKAGE / "__init__.py"]


def test_every_file_stands_on_a_floor() -> None:
    places = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in OURS}
    assert places - set(FLOORS) == set()


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in FILES}
    assert [name_of(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_imports_only_go_down() -> None:
    wrong = []
    for path in OURS:
        here = place_of(module_of(path))
        for module in imports(path):
            if module.split(".")[0] != "biopart" or module == "biopart":
                continue
            there = place_of(module)
            if there != here and FLOORS[there] >= FLOORS[here]:
                wrong.append(f"{name_of(path)} (floor {FLOORS[here]}) imports {module}")
    assert wrong == []


def test_the_package_itself_is_imported_by_the_command_line_alone() -> None:
    importers = {name_of(path) for path in OURS if "biopart" in set(imports(path))}
    assert importers <= {"cli/entry.py"}


def test_no_imports_go_in_circles() -> None:
    graph = {module_of(path): {m for m in imports(path) if m in MODULES} for path in OURS}
    graph.pop("biopart", None)
    graphlib.TopologicalSorter(graph).prepare()


def test_a_circle_would_be_found() -> None:
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).prepare()


def test_no_import_is_relative_or_hidden() -> None:
    wrong = []
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text())):
            relative = isinstance(node, ast.ImportFrom) and node.level > 0
            hidden = isinstance(node, ast.Name) and node.id in ("import_module", "__import__")
            if relative or hidden:
                wrong.append(name_of(path))
    assert wrong == []


@pytest.mark.parametrize("place", sorted(WITHOUT_TORCH))
def test_no_torch_where_none_is_wanted(place: str) -> None:
    found = [
        name_of(path)
        for path in (PACKAGE / place).rglob("*.py")
        if {module.split(".")[0] for module in imports(path)} & TORCH
    ]
    assert found == []


def test_an_init_lists_the_public_names_and_nothing_more() -> None:
    wrong = []
    for path in OURS:
        if path.name == "__init__.py":
            text, *rest = ast.parse(path.read_text()).body
            # ``objectives`` gives one name when it is asked for, as the package itself does.
            lazy = (ast.If, ast.FunctionDef) if path.parent.name == "objectives" else ()
            kinds = (ast.Import, ast.ImportFrom, ast.Assign, *lazy)
            if not isinstance(text, ast.Expr) or not all(isinstance(n, kinds) for n in rest):
                wrong.append(name_of(path))
    assert wrong == []


def test_files_have_at_most_400_lines() -> None:
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_functions_have_at_most_60_lines() -> None:
    lengths = {name: length(function) for name, function in ALL}
    assert {n: lines for n, lines in lengths.items() if lines > LONGEST.get(n, 60)} == {}


def test_most_functions_are_short() -> None:
    lengths = [length(function) for _, function in ALL]
    assert median(lengths) <= 10
    assert quantiles(lengths, n=10)[-1] <= 30


def test_functions_take_at_most_8_arguments_and_4_by_position() -> None:
    wrong = []
    for name, function in ALL:
        given = function.args
        positional = [a.arg for a in (*given.posonlyargs, *given.args)]
        positional = [arg for arg in positional if arg not in ("self", "cls")]
        many = len(positional) + len(given.kwonlyargs) > 8
        # click calls a command by keyword, whatever its signature says.
        by_place = len(positional) > 4 and not name.startswith("cli/")
        if (many or by_place) and name not in CONTRACTS:
            wrong.append(name)
    assert wrong == []


def test_every_contract_that_is_excepted_exists() -> None:
    assert (set(CONTRACTS) | set(LONGEST)) - {name for name, _ in ALL} == set()


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert parts & FORBIDDEN_NAMES == set()


def test_no_handler_catches_everything() -> None:
    wrong = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "Exception"
                if {"Exception", "BaseException"} & set(caught.strip("()").split(", ")):
                    wrong.append(f"{name_of(path)}:{node.lineno}")
    assert wrong == []


def test_nothing_is_left_to_be_done() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "X" * 3)
    folders = (PACKAGE, PACKAGE.parent / "tests", PACKAGE.parent / "recipes")
    found = [path for folder in folders for path in folder.rglob("*.*")]
    paths = [path for path in found if path.suffix in (".py", ".yaml", ".jinja")]
    assert [path.name for path in paths if any(word in path.read_text() for word in words)] == []
