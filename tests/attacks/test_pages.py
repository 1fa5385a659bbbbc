"""Names and captions that hold markup: no page, table or picture of ours takes it for its own."""

import io
import re
from dataclasses import replace

import pytest
from PIL import Image
from rich.console import Console

from itm_lightning.compare import figures, report
from itm_lightning.compare.drawing import to_svg
from itm_lightning.compare.findings import title_of, write
from itm_lightning.compare.pictures import save_pictures
from itm_lightning.compare.table import to_print
from tests.compare import made_up

LABELS = {
    "HTML": "<script>alert(1)</script>",
    "an attribute": '" onmouseover="alert(1)',
    "a link": "[click](javascript:alert(1))",
    "an image": "![x](http://somewhere/x.png)",
    "a cell": "a | b",
    "a formula": r"$\frac{a}{b}$ costs $5",
    "a broken formula": r"$\frac{$ and $x$",
    "a template": "{{ 7 * 7 }}{% raw %}",
    "markup of a terminal": "[link=http://somewhere]x[/link] [red]",
    "control characters": "\x1b]0;owned\x07\x1b[2J\u202egnp",
    "a spreadsheet's formula": "=cmd|'/C touch canary'!A0",
    "the end of an element": "</text></svg><img src=x onerror=alert(1)>",
}


@pytest.fixture(scope="module")
def findings():
    """Of heads with these labels, in a dataset and with notes that hold them, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_up, "name_of", lambda i: [*LABELS.values()][i])
        found = made_up.made_up_findings(heads=len(LABELS), seeds=1, hub=False, resamples=2)
    records = [replace(r, texts=(*LABELS.values(),)[: len(r.texts)]) for r in found.records]
    return replace(found, notes=[*LABELS.values()], dataset="<img src=x>", records=tuple(records))


def test_a_table_shows_them_as_they_are(findings, tmp_path):
    write(findings, tmp_path)
    table = (tmp_path / "comparison.md").read_text()
    assert not re.search(r"^[=+@-]", (tmp_path / "comparison.csv").read_text(), re.MULTILINE)
    assert not re.search(r"<\w|\]\(|[\x00-\x09\x0b-\x1f\u202e]", table)
    for label in ("![x]", "{{ 7 * 7 }}", r"$\frac{$ and $x$", r"a \| b"):
        assert table.count(label) > 1


def test_a_terminal_shows_them_as_they_are(findings):
    out = io.StringIO()
    Console(file=out, width=500).print(to_print(findings.rows, title_of(findings)))
    assert "\x1b" not in out.getvalue()
    assert "[link=http://somewhere]x[/link] [red]" in out.getvalue()


def test_a_page_shows_them_as_they_are(findings, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "drawn", lambda _: [])
    report.write_report(findings, lambda _: None, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert not re.search(r"<script|<img src=x|\" onmouseover|javascript:alert\(1\)\"", page)
    assert "{{ 7 * 7 }}{% raw %}" in page


def test_a_picture_shows_them_as_they_are(findings):
    svg = to_svg(figures.recall_curve(findings, way="i2t"), "recall")
    assert not re.search(r"<script|<img|</svg>.*</svg>", svg, re.DOTALL)
    for formula in (LABELS["a formula"], LABELS["a broken formula"]):
        assert formula in svg


@pytest.mark.slow
def test_no_picture_fails(findings, tmp_path):
    report.write_report(findings, lambda _: None, tmp_path / "report.html")
    save_pictures(findings, tmp_path)
    assert all(Image.open(path).width for path in tmp_path.glob("*.png"))
