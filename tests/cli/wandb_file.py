"""Reading what an offline run of W&B wrote, from its own file."""

import json
import time
from pathlib import Path

HEADER, BLOCK = 7, 32768  # the file's own header and a block, in bytes: LevelDB's log format


def records(path):
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


def finished_records(path):
    """The same, once W&B, which writes in a process of its own, has written the last one."""
    deadline = time.time() + 60
    found = list(records(path))
    while not any(record.HasField("exit") for record in found) and time.time() < deadline:
        time.sleep(0.2)
        found = list(records(path))
    return found


def config_sent(found):
    """What was sent of the config, as pairs of key and value; a key twice if it was sent twice."""
    for record in found:
        for config in (record.run.config, record.config):
            for update in config.update:
                key = update.key or ".".join(update.nested_key)
                if key != "_wandb":
                    yield key, json.loads(update.value_json)


def keys_logged(found):
    """Every key of the history, without W&B's own."""
    items = (item for record in found for item in record.history.item)
    keys = {item.key or item.nested_key[0] for item in items}
    return {key for key in keys if not key.startswith("_")}


def history(found):
    """The rows of the history, each a dictionary; of media, what stands in their place."""
    rows = []
    for record in found:
        row = {}
        for item in record.history.item:
            key, *within = [item.key] if item.key else item.nested_key
            value = json.loads(item.value_json)
            row[key] = {**row.get(key, {}), ".".join(within): value} if within else value
        rows += [row] if row else []
    return rows


def summary_of(found):
    """The last value of every key of the summary."""
    items = (item for record in found for item in record.summary.update)
    return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}


def stored_files(found):
    """Where the files lie that tables consist of, by the path within the table's artifact."""
    contents = (entry for record in found for entry in record.artifact.manifest.contents)
    return {entry.path: Path(entry.local_path) for entry in contents if entry.local_path}
