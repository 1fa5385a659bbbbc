"""``lightning explain``, on a tiny fit."""

import re
import shutil
import subprocess

import pytest
from PIL import Image

from itm_lightning import Matcher
from itm_lightning.cli import main
from itm_lightning.data import Scenes
from itm_lightning.explain import explain
from tests.cli.conftest import in_file
from tests.conftest import TINY_MODEL, TINY_SCENES, TINY_TRAINER


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Of two tiny fits, a pooled head's and a token head's, and a photo."""
    folder = tmp_path_factory.mktemp("fits")
    for head in ("Cosine", "MaxSim"):
        config = {
            "trainer": {**TINY_TRAINER, "default_root_dir": str(folder)},
            "model": {**TINY_MODEL, "similarity": {"class_path": head}},
            "data": {"source": TINY_SCENES, "batch_size": 8},
        }
        main(["fit", "--config", in_file(config, folder), "--run_name", head])
    scenes = Scenes(test=2)
    for number, record in enumerate(scenes.records("test")):
        scenes.image(record).save(folder / f"{number}.png")
    return folder


def ckpt(folder, head):
    return str(folder / head / "checkpoints" / "best.ckpt")


def test_own_images_and_texts_side_by_side(checkpoints, tmp_path, capsys):
    output = tmp_path / "out"
    images = [str(checkpoints / "0.png"), str(checkpoints / "1.png")]
    texts = ["a red circle & a star", "a blue ring", "two squares"]
    heads = [ckpt(checkpoints, "Cosine"), ckpt(checkpoints, "MaxSim")]
    own = ["--images", *images, "--texts", *texts, "--output", str(output)]
    main(["explain", "--ckpt_path", *heads, *own])
    assert "6 pairs" in capsys.readouterr().out  # as many images as texts there are not
    names = {path.name for path in output.iterdir()}
    assert names == {"index.html"} | {f"pair-{n}.{e}" for n in range(1, 7) for e in ("html", "png")}

    page = (output / "pair-1.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:|pair-|index)|url\((?!data:)|https?:""", page)
    assert "a red circle &amp; a star" in page
    assert page.count("<section") == 2
    assert page.count('class="word"') == 2 * 5
    matcher = Matcher.load_from_checkpoint(heads[1])
    found = explain(matcher, images[0], texts[0])[0]
    assert f'<dd class="total">{found.score:.4f}</dd>' in page
    assert f"<dd>{float(found.shares.sum()):.4f}</dd>" in page
    with Image.open(output / "pair-1.png") as picture:
        assert picture.width > 1000
    for n in range(1, 7):
        assert f"pair-{n}.html" in (output / "index.html").read_text()


def test_pairs_of_a_split_with_the_checkpoints_data(checkpoints, tmp_path):
    command = ["explain", "--ckpt_path", ckpt(checkpoints, "MaxSim"), "--split", "val"]
    main([*command, "--queries", "3", "--output", str(tmp_path / "a")])
    scenes = Scenes(**TINY_SCENES["init_args"])
    index = (tmp_path / "a" / "index.html").read_text()
    for number in (0, 4, 8):
        assert scenes.records("val")[number].texts[0] in index
    flags = ["--data.source.val", "2", "--method", "occlusion", "--output", str(tmp_path / "b")]
    main([*command, *flags])
    assert len(list((tmp_path / "b").glob("pair-*.html"))) == 2


def test_two_runs_of_one_head_are_told_apart(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "MaxSim", tmp_path / "again")
    both = [ckpt(checkpoints, "MaxSim"), ckpt(tmp_path, "again")]
    own = ["--images", str(checkpoints / "0.png"), "--texts", "a ring"]
    main(["explain", "--ckpt_path", *both, *own, "--output", str(tmp_path / "out")])
    page = (tmp_path / "out" / "pair-1.html").read_text()
    assert re.findall(r"<h2>(.*)</h2>", page) == ["MaxSim", "again"]


def test_bad_input_is_named(checkpoints, tmp_path, refuse):
    head = ["explain", "--ckpt_path", ckpt(checkpoints, "Cosine")]
    photo = str(checkpoints / "0.png")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert "broken.jpg does not decode" in refuse(
        *head, "--images", "broken.jpg", "--texts", "a ring"
    )
    assert "there is no image file gone.jpg" in refuse(
        *head, "--images", "gone.jpg", "--texts", "a"
    )
    assert "--texts is empty" in refuse(*head, "--images", photo, "--texts", "")
    assert "--images and --texts, or --split" in refuse(*head, "--images", photo)
    assert "--nonsense" in refuse(*head, "--split", "val", "--nonsense", "1")
    assert "-k is no flag" in refuse(*head, "--split", "val", "-k", "3")
    own = *head, "--images", photo, "--texts", "a ring"
    assert "-k is no flag of explain without --split" in refuse(*own, "-k", "3")
    assert "--data.batch_size is no flag" in refuse(*own, "--data.batch_size", "3")
    assert "--config is for --split" in refuse(*own, "--config", "gone.yaml")
    assert "--queries is for --split" in refuse(*own, "--queries", "0")
    assert "--queries is 0" in refuse(*head, "--split", "val", "--queries", "0")
    (tmp_path / "file").write_text("")
    for output in ("file", "file/in"):
        assert f"--output {output} is no folder" in refuse(*own, "--output", output)
    aligned = "--images", photo, "--texts", "a ring", "--method", "alignment"
    assert "Cosine aligns no words" in refuse(*head, *aligned)
    assert "no such file" in refuse("explain", "--ckpt_path", "gone.ckpt", "--split", "val")
    assert "data.source" in refuse(*head, "--split", "val", "--data.source", "Nothing")


def chromium():
    return shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(not chromium(), reason="there is no Chromium")
def test_a_chosen_word_shows_its_map_in_a_browser(checkpoints, tmp_path):
    own = ["--images", str(checkpoints / "0.png"), "--texts", "a ring"]
    main(["explain", "--ckpt_path", ckpt(checkpoints, "MaxSim"), *own, "--output", str(tmp_path)])
    page = tmp_path / "pair-1.html"
    click = "<script>document.querySelector(\"[data-word='1']\").click()</script></body>"
    page.write_text(page.read_text().replace("</body>", click))
    flags = "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"
    shown = subprocess.run(
        [chromium(), *flags, "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "CONSOLE" not in shown.stderr
    main_photo = re.search(r"<div[^>]*data-main[^>]*>(.*?)</div>", shown.stdout, re.DOTALL)[1]
    assert main_photo.count('class="map"') == 1
    assert shown.stdout.count('aria-pressed="true"') == 1
