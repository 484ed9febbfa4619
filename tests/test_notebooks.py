"""The notebooks as committed: run in one go, with pictures, nothing of the machine. nbmake runs them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from notebooks.refresh import METADATA, WIDGET_VIEW, clean

FOLDER = Path(__file__).parent.parent / "notebooks"
PATHS = sorted(FOLDER.glob("*.ipynb"))
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|Users|root|tmp|var|usr|opt|mnt|work|private)/|[A-Z]:\\\\|site-packages")

committed = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [out for cell in code_cells(path) for out in cell.outputs]


def pictures(path: Path) -> list[bytes]:
    return [base64.b64decode(out.data["image/png"]) for out in outputs(path) if "image/png" in out.get("data", {})]


@committed
def test_cells_were_run_once_in_order(path: Path) -> None:
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))


@committed
def test_no_error_or_warning_is_shown(path: Path) -> None:
    assert not [out for out in outputs(path) if out.output_type == "error" or out.get("name") == "stderr"]


@committed
def test_a_reader_without_a_kernel_sees_small_pictures_and_no_lost_widgets(path: Path) -> None:
    sizes = [len(picture) for picture in pictures(path)]
    assert len(sizes) >= 5
    assert max(sizes) < 250_000
    assert path.stat().st_size < 1_500_000
    assert not [out for out in outputs(path) if WIDGET_VIEW in out.get("data", {})]


@committed
def test_some_picture_moves(path: Path) -> None:
    heads = [picture[: picture.index(b"IDAT")] for picture in pictures(path)]
    assert any(b"acTL" in head for head in heads)  # the chunk that makes a PNG an animation


@committed
def test_nothing_of_the_machine_is_kept(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata == METADATA
    assert all(not cell.metadata for cell in notebook.cells)
    for out in outputs(path):
        out.get("data", {}).pop("image/png", None)
        assert not MACHINE_PATH.search(json.dumps(out))
    assert not [cell.source for cell in notebook.cells if MACHINE_PATH.search(cell.source)]


def test_cleaning_keeps_pictures_and_text_and_drops_widgets_and_metadata() -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    widget = nbformat.v4.new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "Button()"})
    text = nbformat.v4.new_output("stream", name="stdout", text="28 frames")
    cell = nbformat.v4.new_code_cell("1", outputs=[widget, picture, text], metadata={"execution": {"iopub": "now"}})
    notebook = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"state": {}}, "interpreter": "mine"})
    clean(notebook)
    assert cell.outputs == [picture, text]
    assert not cell.metadata
    assert notebook.metadata == METADATA


@pytest.fixture
def kernel() -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel(kernel_name="python3")
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(kernel: BlockingKernelClient, code: str, value: str = "None") -> str:
    """Run ``code``; the ``repr`` of ``value`` after it."""
    reply = kernel.execute_interactive(code, user_expressions={"value": value}, output_hook=lambda _: None, timeout=300)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
    return reply["content"]["user_expressions"]["value"]["data"]["text/plain"]


@pytest.mark.slow
def test_stop_ends_the_live_training_while_a_cell_waits_for_it(kernel: BlockingKernelClient) -> None:
    cells = nbformat.read(FOLDER / "02_two_stage_training.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    train = next(i for i, source in enumerate(sources) if source.startswith("torch.manual_seed"))
    wait = next(i for i, source in enumerate(sources) if "wrap_future(training)" in source)
    for source in [sources[0], next(s for s in sources if "def draw" in s), *sources[train:wait]]:
        run(kernel, source)
    button = run(kernel, "", "button.comm.comm_id").strip("'")

    waiting = kernel.execute(sources[wait])
    click = {"method": "custom", "content": {"event": "click"}}  # what the page sends
    kernel.shell_channel.send(kernel.session.msg("comm_msg", {"comm_id": button, "data": click}))
    while (reply := kernel.get_shell_msg(timeout=300))["parent_header"]["msg_id"] != waiting:
        pass
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
    assert run(kernel, "", "0 < bar.value < settings.iterations") == "True"
