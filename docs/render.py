"""Run all notebooks on simulated nights and write a readable copy of each into docs/notebooks."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import MarkdownExporter

HERE = Path(__file__).parent


def main(work: Path) -> None:
    """Run the notebooks in a folder, which keeps their stores and runs."""
    out = HERE / "notebooks"
    out.mkdir(exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, 4)
        place = {"metadata": {"path": str(work)}}
        NotebookClient(notebook, timeout=600, resources=place).execute()
        for cell in notebook.cells:
            cell.outputs = [plain(one) for one in cell.get("outputs", []) if kept(one)]
        resources = {"output_files_dir": ".", "unique_key": path.stem}
        text, made = MarkdownExporter().from_notebook_node(notebook, resources)
        for name, content in made["outputs"].items():
            (out / Path(name).name).write_bytes(content)
        (out / f"{path.stem}.md").write_text(text)


def kept(output: nbformat.NotebookNode) -> bool:
    """Tell whether an output is not from stderr."""
    return output.get("name") != "stderr"


def plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Show an xarray object as text: its HTML brings its own style sheet."""
    if "xr-wrap" in output.get("data", {}).get("text/html", ""):
        del output["data"]["text/html"]
    return output


if __name__ == "__main__":
    main(Path(sys.argv[1]))
