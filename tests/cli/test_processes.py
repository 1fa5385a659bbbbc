"""What torchrun or SLURM starts must be what the trainer is told of."""

import pytest

SLURM = {
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "itm",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "mine",
    "RANK": "0",
    "LOCAL_RANK": "0",
}


def slurm(tasks, per_node=None):
    given = {"SLURM_NTASKS": str(tasks)}
    return SLURM | given | ({"SLURM_NTASKS_PER_NODE": str(per_node)} if per_node else {})


def torchrun(world, local):
    return TORCHRUN | {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local)}


@pytest.mark.parametrize(
    ("environment", "flags", "words"),
    [
        (slurm(2, 2), [], ["--trainer.devices is 1", "SLURM starts 2", "--trainer.devices=2"]),
        (slurm(2, 2), ["--trainer.devices=4"], ["--trainer.devices is 4", "--ntasks-per-node=4"]),
        (slurm(1), ["--trainer.devices=2"], ["--trainer.devices is 2", "SLURM starts 1"]),
        (slurm(4, 2), ["--trainer.devices=2"], ["--trainer.num_nodes is 1", "num_nodes=2"]),
        (slurm(4), ["--trainer.devices=4"], ["4 tasks", "--ntasks-per-node"]),
        (torchrun(2, 2), [], ["--trainer.devices is 1", "torchrun starts 2"]),
        (torchrun(4, 2), ["--trainer.devices=2"], ["--trainer.num_nodes is 1", "num_nodes=2"]),
    ],
)
def test_a_mismatch_is_explained_before_anything_starts(
    refuse, tiny_config, tmp_path, monkeypatch, environment, flags, words
):
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    error = refuse("fit", "--config", tiny_config, *flags)
    assert all(word in error for word in words), error
    assert not (tmp_path / "runs").exists()


def test_extract_is_for_one_process(refuse, tiny_config, monkeypatch):
    for key, value in torchrun(2, 2).items():
        monkeypatch.setenv(key, value)
    error = refuse("extract", "--config", tiny_config, "--output=out", "--trainer.devices=2")
    assert "extract" in error
    assert "torchrun" in error
