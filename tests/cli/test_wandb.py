"""What W&B is told, read back from an offline run's own file."""

import json
import time

import pytest
import yaml

HEADER, BLOCK = 7, 32768  # the file's own header and a block, in bytes: LevelDB's log format


def wandb_records(path):
    """The protobuf records of a ``.wandb`` file."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), HEADER, b""
    while position + HEADER <= len(data):
        if BLOCK - position % BLOCK < HEADER:  # the rest of a block is too small for a header
            position += BLOCK - position % BLOCK
            continue
        length = int.from_bytes(data[position + 4 : position + 6], "little")
        kind = data[position + 6]  # 1 whole, 2 first, 3 middle, 4 last part of a record
        if position + HEADER + length > len(data):
            return  # still being written
        parts += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def config_updates(records):
    for record in records:
        for config in (record.run.config, record.config):
            yield from ((u.key or ".".join(u.nested_key), u.value_json) for u in config.update)


@pytest.fixture
def offline_run(run, tiny_config, tmp_path):
    tiny_config["trainer"]["logger"] = {
        "class_path": "WandbLogger",
        "init_args": {"project": "itm", "save_dir": str(tmp_path)},
    }
    tiny_config["trainer"]["log_every_n_steps"] = 5
    folder = run("fit", "--config", tiny_config)
    import wandb

    wandb.finish()
    (path,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.time() + 60  # W&B writes in a process of its own
    records = list(wandb_records(path))
    while not any(record.HasField("exit") for record in records) and time.time() < deadline:
        time.sleep(0.2)
        records = list(wandb_records(path))
    return folder, records


def test_one_run_has_one_nested_config_and_the_agreed_keys(offline_run):
    folder, records = offline_run

    updates = [(key, value) for key, value in config_updates(records) if key != "_wandb"]
    config = {key: json.loads(value) for key, value in updates}
    assert set(config) == {
        "seed_everything",
        "trainer",
        "model",
        "data",
        "protocol",
        "ckpt_path",
        "weights_only",
    }
    assert len(updates) == len(config)  # nothing was sent twice
    assert config["model"] == yaml.safe_load((folder / "config.yaml").read_text())["model"]

    logged = {
        item.key or ".".join(item.nested_key) for record in records for item in record.history.item
    }
    metrics = json.loads((folder / "metrics.json").read_text())
    assert set(metrics) <= logged
    assert logged - set(metrics) <= {
        "epoch",
        "trainer/global_step",
        "_step",
        "_timestamp",
        "_runtime",
    }
    assert (folder / "metrics.csv").is_file()
