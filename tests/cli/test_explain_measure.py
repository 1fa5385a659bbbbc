"""``lightning explain --measure``: a table, a file and a picture of how good the maps are."""

import json

import pytest
from PIL import Image

from itm_lightning.cli import main
from itm_lightning.explain.measures import Measures


def test_explanations_are_measured_on_a_split(run, tiny_config, tmp_path, capsys, monkeypatch):
    run("fit", "--config", tiny_config, "--model.similarity", "MaxSim", "--run_name", "r")
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    checkpoint = ["explain", "--ckpt_path", "runs/r/checkpoints/last.ckpt", "--measure"]
    with pytest.raises(SystemExit):
        main([*checkpoint, "--images", "a.png", "--texts", "a red circle"])
    printed = capsys.readouterr()
    assert "error: --measure takes a split" in printed.err

    measured, add = [], Measures.add

    def seen(self, number, image, explanation):
        measured.append((self.records[number].texts[0], explanation.text))
        add(self, number, image, explanation)

    monkeypatch.setattr(Measures, "add", seen)
    main([*checkpoint, "--split", "val", "--queries", "2", "--output", "out"])
    index = (tmp_path / "out" / "index.html").read_text()
    assert len(measured) == 2
    assert all(text == explained and text in index for text, explained in measured)
    printed = capsys.readouterr().out
    (values,) = json.loads((tmp_path / "out" / "measures.json").read_text()).values()
    assert "MaxSim: explanations of 2 pairs" in printed
    assert f"pointing/shape          {values['pointing/shape']:6.3f}" in printed
    assert {"mass/colour", "deletion_rank", "shuffled_weights"} <= set(values)
    assert "pointing: share of words" in printed
    assert Image.open(tmp_path / "out" / "measures.png").width > 400
