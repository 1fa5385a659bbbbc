import itertools
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from itm_lightning.compare import report
from itm_lightning.compare.drawing import new_axes, place_labels
from itm_lightning.compare.pictures import PICTURES, save_pictures
from itm_lightning.compare.report import summary, write_report
from tests.compare.made_up import image_of, made_up_findings

FAILED = (("Lorentz", "the loss became NaN at step 12"),)
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def written(findings, path, images=image_of):
    write_report(findings, images, path)
    return path.read_text()


@pytest.fixture(scope="module")
def findings():
    return made_up_findings(failed=FAILED)


@pytest.fixture(scope="module")
def page(findings, tmp_path_factory):
    return written(findings, tmp_path_factory.mktemp("report") / "report.html")


def test_every_picture_is_there(page):
    assert page.count("<svg ") == len(PICTURES)
    for picture in PICTURES:
        assert f'aria-label="{picture.title}"' in page
    assert "Not drawn" not in page


def test_nothing_is_fetched(page):
    assert "http" not in page
    assert {uri[:5] for uri in re.findall(r'(?:src|href)="([^"#][^"]*)"', page)} == {"data:"}
    assert not re.search(r"url\((?!#)|@import|<script", page)


def test_colours_are_the_pages(page):
    assert page.count("var(--variant-0)") > 10
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", drawn)
    assert len(re.findall("<text ", drawn)) == len(re.findall(r"<text [^>]*fill: var\(", drawn))


def test_explanations_stand_beside_their_baselines(page):
    row = page.split('<th scope="row">pointing</th>')[1].split("</tr>")[0]
    assert re.findall(r"<td>([\d.]+)<small>random ([\d.]+)", row) == [
        *(("0.400", "0.100"), ("0.450", "0.100"), ("0.500", "0.100")),
    ]


def test_a_failed_head_says_why(page):
    assert "failed: the loss became NaN at step 12" in page
    assert "Lorentz failed" in page


def test_both_directions_of_disagreements_are_shown(page):
    assert page.count('<article class="card">') == 5
    assert page.count('<ol class="texts">') == 4
    assert page.count('<ol class="strip">') == 6


@pytest.mark.parametrize(("heads", "seeds", "images"), [(1, 1, image_of), (20, 2, lambda _: None)])
def test_few_and_many_heads(tmp_path, heads, seeds, images):
    made = made_up_findings(heads=heads, seeds=seeds, hub=False, resamples=50)
    page = written(made, tmp_path / "report.html", images)
    assert page.count('<th scope="row">') >= heads
    assert "Not drawn, for want of data: Rsum with the hub correction" in page
    assert ('class="no-image"' in page) == (heads == 20)


def test_texts_are_escaped(findings, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "drawn", lambda _: [])
    records = [replace(r, texts=("<script>alert(1)</script>",) * 5) for r in findings.records]
    page = written(replace(findings, records=tuple(records)), tmp_path / "report.html")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_without_records_the_texts_are_ids(findings, tmp_path):
    page = written(replace(findings, records=()), tmp_path / "report.html", lambda _: None)
    assert "text 3" in page
    assert "By the text" in page.split("Not drawn")[1]


def test_labels_beside_points_hide_nothing():
    axes = new_axes()
    points = [(0.1, 10.0), (0.12, 11.0), (0.9, 10.4), (0.95, 10.6)]
    axes.plot(*zip(*points, strict=True), linestyle="none", marker="o")
    axes.margins(0.15)
    place_labels(axes, points, ["Cosine", "Bilinear", "MaxSim", "Long\n(a=1,\nb=2)"], points[:2])
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    frame = axes.get_window_extent()
    for box, other in itertools.combinations(boxes, 2):
        assert not box.overlaps(other)
    for box in boxes:
        assert (frame.x0, frame.y0) < (box.x0, box.y0)
        assert (box.x1, box.y1) < (frame.x1, frame.y1)
        assert not any(box.contains(*at) for at in axes.transData.transform(points))


def test_pictures_are_stored(tmp_path):
    save_pictures(made_up_findings(heads=2, seeds=1, hub=False, resamples=50), tmp_path)
    names = {picture.name for picture in PICTURES if not picture.name.startswith("hubs")}
    assert {path.stem for path in tmp_path.glob("*.png")} == names


def test_the_summary_says_what_is_known_and_what_is_not(findings):
    sentences = summary(findings)
    assert sentences[0].startswith("MaxSim has the highest rsum, ")
    assert "over 3 seeds" in sentences[0]
    alone = " ".join(summary(made_up_findings(heads=2, seeds=1, resamples=50)))
    assert "another seed can give another order" in alone
    for text in (" ".join(sentences), alone):
        assert "on which each run's best checkpoint was chosen" in text


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to open the page in")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_opens_it(findings, tmp_path, width):
    path = tmp_path / "report.html"
    write_report(findings, image_of, path)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command = [CHROMIUM, *flags, f"--window-size={width},1000", "--dump-dom", path.as_uri()]
    opened = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in opened.stderr
    assert opened.stdout.count("<svg ") == len(PICTURES)
