"""One epoch in each precision that a CPU knows."""

import json

import pytest
import torch


def scored(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_learns_about_the_same_in_any_precision(run, tiny_config):
    tiny_config["trainer"]["num_sanity_val_steps"] = 0
    tiny_config["data"]["source"]["init_args"]["train"] = 24
    expected = scored(run("fit", "--config", tiny_config))
    for precision in ("bf16-mixed", "bf16-true", "64-true"):
        found = scored(run("fit", "--config", tiny_config, f"--trainer.precision={precision}"))
        assert found.keys() == expected.keys()
        tolerance = 1e-4 if precision == "64-true" else 0.05  # Adam magnifies the last digits
        assert found["train/loss"] == pytest.approx(expected["train/loss"], rel=tolerance)
        assert found["train/loss"] != expected["train/loss"] or precision == "64-true"


def test_products_have_the_precision_that_is_asked_for(run, tiny_config):
    assert torch.get_float32_matmul_precision() == "highest"
    try:
        run("fit", "--config", tiny_config, "--trainer.float32_matmul_precision=high")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_another_precision_of_products_is_refused(refuse, tiny_config):
    line = refuse("fit", "--config", tiny_config, "--trainer.float32_matmul_precision=low")
    assert "float32_matmul_precision" in line
    assert "medium" in line
