import json

import pytest

from itm_lightning.data import Box, CocoCaptions, Karpathy
from itm_lightning.errors import InputError
from tests import layouts


@pytest.fixture
def arguments(karpathy_root, tmp_path):
    return layouts.coco_captions(karpathy_root, tmp_path / "coco")


def test_records_and_images_are_those_of_the_karpathy_dataset(arguments, karpathy_root):
    plain, coco = Karpathy(str(karpathy_root)), CocoCaptions(**arguments)
    for split in ("train", "val", "test"):
        for here, there in zip(coco.records(split), plain.records(split), strict=True):
            assert here.texts == there.texts
            assert (here.image_id, here.text_ids) == (there.image_id, there.text_ids)
            assert coco.image(here).tobytes() == plain.image(there).tobytes()


def test_the_defaults_fit_coco_2017(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train", "val"):
        (tmp_path / f"{split}2017").mkdir()
        content = {"images": [{"id": 9, "file_name": "000000000009.jpg"}], "annotations": []}
        path = tmp_path / "annotations" / f"captions_{split}2017.json"
        path.write_text(json.dumps(content))
    coco = CocoCaptions(str(tmp_path))
    (record,) = coco.records("val")
    assert record.location == "val2017/000000000009.jpg"
    assert record.texts == ()
    assert coco.records("test") == ()


def test_texts_are_limited_and_labels_read(arguments, tmp_path):
    plain = CocoCaptions(**arguments)
    chosen = [record.image_id for record in plain.records("val")]
    content = {
        "images": [{"id": number} for number in chosen],
        "categories": [{"id": 50, "name": "dog"}, {"id": 44, "name": "bottle"}],
        "annotations": [{"image_id": chosen[1], "category_id": 44, "bbox": [1, 1, 2, 3]}],
    }
    (tmp_path / "coco" / "instances.json").write_text(json.dumps(content))
    coco = CocoCaptions(**arguments, instances=["instances.json"], texts_per_image=2)
    for record, whole in zip(coco.records("val"), plain.records("val"), strict=True):
        assert record.texts == whole.texts[:2]
    assert coco.records("val")[1].boxes == (Box("bottle", 1, 1, 3, 4),)
    assert [r.labels for r in coco.records("val")[:3]] == [(), ("bottle",), ()]
    assert coco.class_names == ("dog", "bottle")
    assert plain.class_names == ()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda c: c.pop("annotations"),
            r"captions_train\.json is no captions JSON.*'annotations'",
        ),
        (lambda c: c["images"][0].pop("file_name"), r"captions_train\.json .* lacks 'file_name'"),
        (lambda c: c["images"].pop(0), r"caption 0 is of photo 0, which is not among its images"),
        (lambda c: c["images"].append(c["images"][0]), r"train_0\.jpg twice in a split"),
        (lambda c: c["annotations"][0].update(caption=""), r"caption 1 of photo .* is empty"),
    ],
)
def test_a_malformed_file_is_named(arguments, tmp_path, spoil, message):
    path = tmp_path / "coco" / "captions_train.json"
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message) as caught:
        CocoCaptions(**arguments).records("train")
    assert "captions_train.json" in str(caught.value)


def test_what_is_missing_is_named_with_its_flag(arguments):
    with pytest.raises(InputError, match=r"nowhere\.json are missing: set data\.source\.val"):
        CocoCaptions(**arguments | {"val": "nowhere.json"}).records("val")
    with pytest.raises(InputError, match=r"nowhere is missing: set data\.source\.test_images"):
        CocoCaptions(**arguments | {"test_images": "nowhere"}).records("test")
