"""Photos that need no resizing are decoded by another library, to the same pixels."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.transforms import v2

from itm_lightning.data import Folder
from itm_lightning.data.loading.decoding import DecodedImages, MemberTransforms
from itm_lightning.encoders.transforms import ToPixels, crop_and_mirror
from itm_lightning.errors import InputError
from itm_lightning.utils.images import plain_jpeg, plain_jpeg_size

TO_48 = ToPixels([v2.Resize([48]), v2.CenterCrop([48, 48])])
TO_32 = ToPixels([v2.Resize([32, 32])])


def painted(width=48, height=48, mode="RGB"):
    generator = np.random.default_rng(width)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


#: name to (image, how it is saved, whether it is decoded without Pillow)
FILES = {
    "baseline": (painted(), {"format": "JPEG"}, True),
    "progressive": (painted(), {"format": "JPEG", "progressive": True, "quality": 95}, True),
    "full colour": (painted(), {"format": "JPEG", "subsampling": 0, "optimize": True}, True),
    "restarts": (painted(), {"format": "JPEG", "restart_marker_rows": 1, "dpi": (72, 72)}, True),
    "comment": (painted(), {"format": "JPEG", "comment": b"\xff\xc0 and more"}, True),
    "another size": (painted(70, 48), {"format": "JPEG"}, False),
    "gray": (painted(mode="L"), {"format": "JPEG"}, False),
    "four inks": (painted(mode="CMYK"), {"format": "JPEG"}, False),
    "turned": (painted(), {"format": "JPEG", "exif": turned()}, False),
    "PNG": (painted(), {"format": "PNG"}, False),
}


def written(folder, names):
    """A dataset of these files, and its records."""
    (folder / "train").mkdir(parents=True)
    rows = []
    for number, name in enumerate(names):
        image, how, _ = FILES[name]
        image.save(folder / "train" / f"{number}", **how)
        rows.append(json.dumps({"file_name": f"train/{number}", "caption": name}))
    (folder / "metadata.jsonl").write_text("\n".join(rows), encoding="utf-8")
    source = Folder(str(folder))
    return source, source.records("train")


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_pillows(name, tmp_path):
    source, records = written(tmp_path, [name])
    data = source.encoded(records[0])
    is_plain = plain_jpeg_size(data) is not None and TO_48.keeps(plain_jpeg_size(data))
    assert is_plain == FILES[name][2]
    expected = TO_48(source.image(records[0]))
    assert DecodedImages(source, TO_48)(records)[0].equal(expected)
    if is_plain:
        assert torch.from_numpy(plain_jpeg(data)).permute(2, 0, 1).equal(expected)


@pytest.mark.parametrize("transforms", [[TO_48], [TO_48, TO_48], [TO_48, TO_32]])
def test_a_batch_of_all_kinds(transforms, tmp_path):
    source, records = written(tmp_path, FILES)
    for order in (records, records[::-1]):
        batch = DecodedImages(source, MemberTransforms(transforms))(order)
        for transform, pixels in zip(transforms, batch.parts, strict=True):
            expected = torch.stack([transform(source.image(record)) for record in order])
            assert pixels.equal(expected)


class Negatives(Folder):
    """A user's source, which does more than decode."""

    def image(self, record):
        return ImageOps.invert(super().image(record))


def test_what_a_source_makes_of_its_images_is_kept(tmp_path):
    plain, records = written(tmp_path, ["baseline"])
    pixels = [DecodedImages(each, TO_48)(records) for each in (plain, Negatives(str(tmp_path)))]
    assert pixels[1].equal(255 - pixels[0])


def test_which_sizes_a_transform_keeps():
    assert TO_48.keeps((48, 48))
    assert not TO_48.keeps((48, 60))
    assert not TO_48.keeps((60, 60))
    assert ToPixels([v2.Resize([30, 40])]).keeps((40, 30))
    assert not ToPixels([v2.Resize([30, 40])]).keeps((30, 40))
    assert not ToPixels([v2.Resize([40])]).keeps((40, 30))
    augmented = ToPixels(crop_and_mirror((48, 48), v2.InterpolationMode.BILINEAR))
    assert not augmented.keeps((48, 48))


@pytest.mark.parametrize("length", [1, 3, 60, 200, 400])
def test_half_a_file_is_named(length, tmp_path):
    source, records = written(tmp_path, ["baseline"])
    path = tmp_path / records[0].location
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(InputError, match=f"{path} does not decode"):
        DecodedImages(source, TO_48)(records)


def test_without_torchvisions_decoder(tmp_path, monkeypatch):
    source, records = written(tmp_path, ["baseline"])
    monkeypatch.delattr("torchvision.io.decode_jpeg")
    assert plain_jpeg(source.encoded(records[0])) is None
    expected = TO_48(source.image(records[0]))
    assert DecodedImages(source, TO_48)(records)[0].equal(expected)


def test_random_bytes_have_no_size_or_some():
    generator = np.random.default_rng(0)
    buffer = io.BytesIO()
    painted().save(buffer, "JPEG")
    for _ in range(300):
        data = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        data[generator.integers(2, 200, 5)] = generator.integers(0, 256, 5)
        size = plain_jpeg_size(data.tobytes()[: generator.integers(2, 300)])
        assert size is None or len(size) == 2
