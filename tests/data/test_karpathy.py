import json

import pytest

from itm_lightning.data import Karpathy
from itm_lightning.errors import InputError


def test_records_hold_what_the_json_says(karpathy_root):
    entries = json.loads((karpathy_root / "dataset_tiny.json").read_text())["images"]
    records = Karpathy(root=str(karpathy_root)).records("val")
    expected = [entry for entry in entries if entry["split"] == "val"]
    assert [r.image_id for r in records] == [entry["imgid"] for entry in expected]
    assert [list(r.texts) for r in records] == [
        [s["raw"] for s in entry["sentences"]] for entry in expected
    ]
    assert [list(r.text_ids) for r in records] == [
        [s["sentid"] for s in entry["sentences"]] for entry in expected
    ]


def test_the_image_is_rgb(karpathy_root):
    source = Karpathy(root=str(karpathy_root))
    image = source.image(source.records("train")[0])
    assert image.mode == "RGB"
    assert image.size == (64, 64)


def test_texts_are_limited(karpathy_root):
    records = Karpathy(root=str(karpathy_root), texts_per_image=2).records("test")
    assert {len(record.texts) for record in records} == {2}


def test_coco_keeps_images_in_subfolders_and_adds_restval_to_train(tmp_path):
    entries = [
        {
            "filepath": "val2014",
            "filename": "a.jpg",
            "split": "restval",
            "imgid": 3,
            "cocoid": 391895,
            "sentences": [{"raw": "a cat", "sentid": 7}],
        },
    ]
    (tmp_path / "photos").mkdir()
    (tmp_path / "coco.json").write_text(json.dumps({"images": entries}))
    source = Karpathy(root=str(tmp_path), annotations="coco.json", images="photos")
    (record,) = source.records("train")
    assert record.location == "val2014/a.jpg"
    assert record.image_id == 391895  # as COCO's other files and judgements have it
    assert source.records("val") == ()


def test_two_candidates_for_the_annotations_are_not_guessed_between(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("dataset_a.json", "dataset_b.json"):
        (tmp_path / name).write_text('{"images": []}')
    with pytest.raises(InputError, match=r"2 files dataset\*\.json.*data\.source\.annotations"):
        Karpathy(root=str(tmp_path)).records("train")


def test_verify_finds_a_truncated_image_that_opens(karpathy_root, tmp_path):
    source = Karpathy(root=str(karpathy_root))
    record = source.records("train")[0]
    (tmp_path / "images").mkdir()
    whole = (karpathy_root / "images" / record.location).read_bytes()
    (tmp_path / "images" / record.location).write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dataset.json").write_text('{"images": []}')
    broken = Karpathy(root=str(tmp_path))
    for read in (broken.verify, broken.image):
        with pytest.raises(InputError, match=f"{record.location} does not decode"):
            read(record)
    source.verify(record)
