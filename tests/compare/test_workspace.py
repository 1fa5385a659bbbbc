"""The comparison's report in W&B, built offline and never sent."""

import json
from dataclasses import replace

import pytest

from itm_lightning.compare.findings import Findings
from itm_lightning.compare.runs import Outcome, Variant
from itm_lightning.compare.table import rows_of
from itm_lightning.compare.workspace import checked_target, publish, report, workspace
from itm_lightning.errors import InputError

wr = pytest.importorskip("wandb_workspaces.reports.v2")
workspaces = pytest.importorskip("wandb_workspaces.workspaces")


def no_login(self):
    raise OSError("no\nlogin")


@pytest.fixture
def findings(tmp_path):
    """Two heads, the first with two seeds, and one that failed."""

    def outcome(name, rsum):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"command": "fit", "wandb_id": f"id-{name}"}))
        config = {"trainer": {"logger": {"class_path": "WandbLogger"}}}
        return Outcome(folder, 0, config, {"scores": {"rsum": rsum}}, {}, [], 2.0)

    variants = (
        Variant("Cosine", (outcome("a", 200.0), outcome("b", 210.0))),
        Variant("MaxSim", (outcome("c", 220.0),)),
        Variant("Mlp", (), error="it had no luck"),
    )
    rows = rows_of(variants, {})
    seen = "Scenes", 12, 60, variants, rows, [], {}, ["Each head had one trial."]
    return Findings("similarity", "test", "Retrieval", *seen)


def test_the_report_has_a_set_of_runs_a_variant_and_the_keys_that_runs_log(findings):
    built = report(findings, "team", "itm")
    assert (built.entity, built.project) == ("team", "itm")
    grids = [block for block in built.blocks if isinstance(block, wr.PanelGrid)]
    for grid in grids:
        assert [runset.name for runset in grid.runsets] == ["Cosine", "MaxSim"]
        assert [runset.groupby for runset in grid.runsets] == [["group"], []]  # one has two seeds
        assert "id-a" in str(grid.runsets[0].filters)
        assert "id-c" in str(grid.runsets[1].filters)
    panels = [panel for grid in grids for panel in grid.panels]
    bars = {key for panel in panels if isinstance(panel, wr.BarPlot) for key in panel.metrics}
    assert {"test/rsum", "test/i2t_R@1", "test/t2i_R@10"} <= {str(key) for key in bars}
    lines = {str(panel.y[0]): panel.x for panel in panels if isinstance(panel, wr.LinePlot)}
    assert lines["val/rsum"] == "epoch"
    assert lines["train/loss"] == "trainer/global_step"
    (words,) = (panel for panel in panels if isinstance(panel, wr.MediaBrowser))
    assert words.media_keys == ["test/word_maps"]
    (table,) = (block.text for block in built.blocks if isinstance(block, wr.MarkdownBlock))
    assert "205.0" in table
    assert "Mlp failed: it had no luck" in table


def test_on_val_the_scores_are_those_of_the_best_checkpoint(findings):
    built = workspace(replace(findings, split="val"), "team", "itm")
    assert [section.name for section in built.sections] == ["Scores", "Training", "Retrieved"]
    assert str(built.sections[0].panels[0].metrics[0]) == "best/rsum"


def test_without_w_and_b_one_line_names_the_local_report(findings, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    said = publish(findings, "team", "itm", path)
    assert said == f"no report in W&B, which is offline here: the same views are in {path}"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wr.Report, "save", no_login)
    said = publish(findings, "team", "itm", path)
    assert said == f"no report in W&B (no login): the same views are in {path}"
    monkeypatch.setattr(wr.Report, "save", lambda self: self)
    monkeypatch.setattr(wr.Report, "url", "https://wandb.example/report")
    monkeypatch.setattr(workspaces.Workspace, "save", no_login)
    saved, missing = publish(findings, "team", "itm", path).splitlines()
    assert saved.startswith("report in W&B: https://")
    assert missing == f"no workspace in W&B (no login): the same views are in {path}"
    unlogged = [
        replace(variant, outcomes=tuple(replace(run, config={}) for run in variant.outcomes))
        for variant in findings.variants
    ]
    said = publish(replace(findings, variants=tuple(unlogged)), "team", "itm", path)
    assert said.startswith("no report in W&B, to which none of the runs was logged: ")


@pytest.mark.parametrize("target", ["itm", "team/itm/more", "/itm", "team /itm"])
def test_an_entity_and_a_project_are_needed(target):
    with pytest.raises(InputError, match=r"--wandb .*ENTITY/PROJECT"):
        checked_target(target)
    assert checked_target("team/itm") == ("team", "itm")
