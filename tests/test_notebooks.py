"""Notebooks: no outputs in git, no logic of their own, and all run (make test-notebooks)."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
# What would be logic: a notebook calls what biopart has.
LOGIC = (ast.FunctionDef, ast.ClassDef, ast.While, ast.Try, ast.Lambda)


def test_there_are_seven():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n:02d}" for n in range(1, 8)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_has_no_logic(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)
    sources = ["".join(cell["source"]) for cell in cells]
    code = "\n".join(sources).replace("%matplotlib inline", "")
    names = [type(node).__name__ for node in ast.walk(ast.parse(code)) if isinstance(node, LOGIC)]
    assert names in ([], ["Lambda"])  # one that formats a table
    assert len(code.splitlines()) < 80
    assert " = None" in sources[0]  # one line at the top leads to real data


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path_factory):
    """In one folder for all, as a user would run them; the first cell that fails is shown."""
    client = pytest.importorskip("nbclient", reason="needs the group notebooks")
    notebook = pytest.importorskip("nbformat").read(path, 4)
    folder = tmp_path_factory.getbasetemp() / "notebooks"
    folder.mkdir(exist_ok=True)
    place = {"metadata": {"path": str(folder)}}
    done = client.NotebookClient(notebook, timeout=600, resources=place).execute()
    code = [cell for cell in done.cells if cell.cell_type == "code"]
    assert all(cell.execution_count == number for number, cell in enumerate(code, 1))
