import json

import pytest

from itm_lightning.data import Box, Coco, Karpathy
from itm_lightning.data.loading.stream import StreamedSource
from itm_lightning.errors import InputError
from tests import layouts

pytestmark = pytest.mark.usefixtures("hub_cache")
both_ways = pytest.mark.parametrize("streaming", [False, True])
CATEGORIES = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]


@pytest.fixture(scope="module")
def folder(karpathy_root, tmp_path_factory):
    return layouts.coco(karpathy_root, tmp_path_factory.mktemp("hub") / "coco")


def instances(path, image_ids, things):
    """``instances_*.json`` of things ``(image, category, box)``."""
    annotations = [
        {"id": k, "image_id": image, "category_id": category, "bbox": box, "iscrowd": 0}
        for k, (image, category, box) in enumerate(things)
    ]
    images = [{"id": number} for number in image_ids]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    path.write_text(json.dumps(content))
    return str(path)


@both_ways
def test_records_and_images_are_those_of_the_karpathy_dataset(folder, karpathy_root, streaming):
    plain, hub = Karpathy(str(karpathy_root)), Coco(**folder, streaming=streaming)
    assert not isinstance(hub, StreamedSource)  # photos are files: any order will do
    for split in ("train", "val", "test"):  # restval is of train
        for here, there in zip(hub.records(split), plain.records(split), strict=True):
            assert here.texts == there.texts
            assert (here.image_id, here.text_ids) == (there.image_id, there.text_ids)
            assert here.location == f"images/{there.location}"
            assert hub.image(here).tobytes() == plain.image(there).tobytes()
            hub.verify(here)


@both_ways
def test_restval_can_be_left_out_and_texts_limited(folder, streaming):
    hub = Coco(**folder, splits={"train": ["train"]}, texts_per_image=3, streaming=streaming)
    assert len(hub.records("train")) == 10
    assert {len(record.texts) for record in hub.records("train")} == {3}


def test_a_split_column_and_no_folders(tmp_path, karpathy_root):
    rows = [layouts.coco_row(e, e["split"]) for e in layouts.entries(karpathy_root)]
    for row in rows:
        del row["filepath"]
    layouts.write_parquet(rows, tmp_path / "d" / "train-00000-of-00001.parquet")
    images = str(karpathy_root / "images")
    hub = Coco(images, str(tmp_path / "d"), folder_column=None, split_column="split")
    assert [len(hub.records(split)) for split in ("train", "val", "test")] == [16, 8, 8]
    hub.verify(hub.records("val")[0])


def test_labels_and_boxes_come_from_the_instances(folder, tmp_path):
    numbers = [r.image_id for split in ("train", "val") for r in Coco(**folder).records(split)]
    first, second = numbers[:2]
    files = [
        instances(
            tmp_path / "instances_a.json",
            numbers[:9],
            [
                (first, 18, [1.0, 2.0, 3.0, 4.5]),
                (first, 1, [0.0, 0.0, 5.0, 6.0]),
                (first, 18, [7.0, 7.0, 1.0, 1.0]),
            ],
        ),
        instances(tmp_path / "instances_b.json", numbers[9:], []),
    ]
    record, other = Coco(**folder, instances=files).records("train")[:2]
    assert record.labels == ("dog", "person")
    assert record.boxes == (
        Box("dog", 1.0, 2.0, 4.0, 6.5),
        Box("person", 0.0, 0.0, 5.0, 6.0),
        Box("dog", 7.0, 7.0, 8.0, 8.0),
    )
    assert (other.image_id, other.labels, other.boxes) == (second, (), ())


def test_a_image_that_no_instances_list_is_named(folder, tmp_path):
    files = [instances(tmp_path / "instances_val.json", [], [])]
    with pytest.raises(InputError, match=r"data\.source\.instances lists photo 0 .*every split"):
        Coco(**folder, instances=files).records("train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", "is no instances JSON of COCO"),
        ('{"images": [], "categories": []}', "lacks 'annotations'"),
    ],
)
def test_instances_of_another_kind_are_named(folder, tmp_path, text, message):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        Coco(**folder, instances=[str(path)]).records("train")
    assert str(path) in str(caught.value)


def test_instances_that_are_missing_are_named(folder):
    with pytest.raises(InputError, match=r"nowhere\.json are missing: set data\.source\.instances"):
        Coco(**folder, instances=["nowhere.json"]).records("train")


def test_karpathys_coco_has_labels_too(tmp_path):
    (tmp_path / "images").mkdir()
    entry = {"filename": "a.jpg", "split": "val", "imgid": 0, "sentences": [], "cocoid": 77}
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": [entry]}))
    instances(tmp_path / "instances.json", [77], [(77, 1, [0, 0, 2, 3])])
    (record,) = Karpathy(str(tmp_path), instances=["instances.json"]).records("val")
    assert record.image_id == 77
    assert record.labels == ("person",)
    assert record.boxes == (Box("person", 0, 0, 2, 3),)


def test_missing_images_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"nowhere is missing: set data\.source\.images"):
        Coco(**folder | {"images": "nowhere"}).records("train")
    hub = Coco(**folder | {"images": str(tmp_path)})
    with pytest.raises(InputError, match=r"images/train_0\.jpg is missing, though .*coco names it"):
        hub.verify(hub.records("train")[0])


@both_ways
def test_a_column_that_is_not_there_is_named(folder, streaming):
    message = r"no column 'coco_id' \(data\.source\.id_column\); it has filepath, sentids, filename"
    with pytest.raises(InputError, match=message):
        Coco(**folder, id_column="coco_id", streaming=streaming).records("train")
