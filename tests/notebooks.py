"""Notebooks: how they are executed and stored. ``python -m tests.notebooks [name …]`` stores them.

Their cell of the tag ``parameters`` says how large everything is; stored outputs are of that size,
and the tests execute the notebooks with :data:`SMALL` instead.
"""

import base64
import hashlib
import io
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parents[1] / "notebooks"
SMALL = {
    "add_your_own_similarity": "IMAGES, EPOCHS = 24, 1",
    "captions": (
        "IMAGES, EPOCHS, SHOWN, MEASURED = 24, 1, 2, 4\n"
        'NETWORK, WEIGHTS, SIZE = "resnet10t", None, 32'
    ),
    "compare": 'HEADS = ["Cosine", "MaxSim"]\nSEEDS = [1]\nIMAGES, EPOCHS = 24, 1',
    "explain": "IMAGES, EPOCHS = 24, 1",
    "quickstart": "IMAGES, EPOCHS = 24, 1",
}
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
_WIDEST = 1000
_TIMES = re.compile(r" · [\d.]+ (?:s|min)(?: · about [^\n]* left)?$", re.MULTILINE)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook):
    """Of the code: outputs that are stored under another one are not those of this code."""
    sources = "\0".join(cell.source for cell in code_of(notebook))
    return hashlib.sha256(sources.encode()).hexdigest()


def executed(notebook, folder, parameters=None):
    """The notebook with the outputs of its cells, as they are stored."""
    for cell in code_of(notebook):
        if parameters and "parameters" in cell.metadata.get("tags", []):
            cell.source = parameters
    NotebookClient(notebook, timeout=3000, resources={"metadata": {"path": folder}}).execute()
    for cell in code_of(notebook):
        cell.metadata.pop("execution", None)  # when it ran
        kept = _joined(output for output in cell.outputs if output.get("name") != "stderr")
        cell.outputs = [_without_traces(output, str(folder)) for output in kept]
    notebook.metadata["code"] = digest(notebook)
    return notebook


def _joined(outputs):
    """The outputs, with what was printed bit by bit in one."""
    joined = []
    for output in outputs:
        if joined and output.output_type == joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _without_traces(output, folder):
    """The output without the machine's paths and times, which no other run would have."""
    if output.output_type == "stream":
        output.text = _TIMES.sub("", _COLOURS.sub("", output.text).replace(f"{folder}/", ""))
    elif "image/png" in output.data:
        output.data = {"image/png": _smaller(output.data["image/png"])}
    return output


def _smaller(png):
    """The same picture in 256 colours and at most 1,000 pixels wide: a fifth of the bytes."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    image.thumbnail((_WIDEST, 4 * _WIDEST))
    file = io.BytesIO()
    image.quantize(method=Image.Quantize.MAXCOVERAGE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def pictures(notebook):
    """How many pictures each cell of code shows."""
    return [
        sum("image/png" in output.get("data", {}) for output in cell.outputs)
        for cell in code_of(notebook)
    ]


if __name__ == "__main__":
    for name in sys.argv[1:] or SMALL:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(read(name), Path(folder)), FOLDER / f"{name}.ipynb")
        print(f"stored {name}", flush=True)
