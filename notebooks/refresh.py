"""Run notebooks and write them back as they are committed: ``python notebooks/refresh.py [FILE ...]``, or all."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "execution": {"timeout": 1800},  # seconds a cell; nbmake reads it
}


def clean(notebook: nbformat.NotebookNode) -> None:
    """Leave what a reader needs and nothing of the machine.

    Widgets go: without a kernel a page can only say that they are missing. Pictures, tables and text stay.
    """
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if WIDGET_VIEW not in out.get("data", {})]


def refresh(path: Path) -> None:
    """Run one notebook in its own folder; a cell that fails leaves the file as it was."""
    notebook = nbformat.read(path, as_version=4)
    clean(notebook)
    NotebookClient(
        notebook,
        timeout=METADATA["execution"]["timeout"],
        record_timing=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    clean(notebook)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(Path(__file__).parent.glob("*.ipynb")):
        refresh(Path(name))
        print(f"{name}: run and written")
