"""One epoch in each precision that a CPU knows."""

import json

import pytest


def scored(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_learns_about_the_same_in_any_precision(run, tiny_config, precision):
    tiny_config["trainer"]["num_sanity_val_steps"] = 0
    expected = scored(run("fit", "--config", tiny_config))
    found = scored(run("fit", "--config", tiny_config, f"--trainer.precision={precision}"))
    assert found.keys() == expected.keys()
    tolerance = 1e-5 if precision == "64-true" else 0.05
    assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=tolerance)
    assert found["train/loss"] != expected["train/loss"] or precision == "64-true"
