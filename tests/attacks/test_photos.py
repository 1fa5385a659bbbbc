"""Photos that are odd, damaged or meant to harm: they are seen as they are meant, or one line."""

import io
import os
import random
import socket
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from itm_lightning.data import Box, ITMDataModule, Karpathy, Record
from itm_lightning.data.loading.decoding import DecodedImages
from itm_lightning.data.loading.frozen import frozen_tokens
from itm_lightning.data.sources.image_files import ImageFileSource
from itm_lightning.errors import InputError
from itm_lightning.utils.images import as_image, as_rgb, check_decodes, image_in, opened
from tests.extract.conftest import to_tensor

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(8, 0)


class Photos(ImageFileSource):
    """The photos of a folder."""

    image_folder = None
    listing = "the list"

    def __init__(self, folder, names, boxes=()):
        self.image_folder = Path(folder)
        self.names = names
        self.boxes = boxes

    def records(self, split):
        return [
            Record(k, ("a",), (k,), name, boxes=self.boxes) for k, name in enumerate(self.names)
        ]


# -- seen as they are meant -------------------------------------------------------------------


def tiff(values):
    return partial(Image.fromarray(values).save, format="TIFF")


DEEP = {
    "16 bits, PNG": partial(Image.fromarray(RAMP.astype(np.uint16) * 257).save, format="PNG"),
    "16 bits, TIFF": tiff(RAMP.astype(np.uint16) * 257),
    "16 bits, big-endian": tiff((RAMP.astype(np.uint16) * 257).astype(">u2")),
    "32 bits of 255": tiff(RAMP.astype(np.int32)),
    "32 bits of 65535": tiff(RAMP.astype(np.int32) * 257),
    "32 bits and more": tiff(RAMP.astype(np.int32) * 2**22),
    "negative": tiff(RAMP.astype(np.int32) - 128),
    "float of 1": tiff(RAMP.astype(np.float32) / 255),
    "float of 255": tiff(RAMP.astype(np.float32)),
    "float, negative": tiff(RAMP.astype(np.float32) / 127.5 - 1),
}


@pytest.mark.parametrize("kind", DEEP)
def test_more_than_8_bits_are_scaled_by_their_range(kind):
    file = io.BytesIO()
    DEEP[kind](file)
    seen = np.asarray(image_in(file.getvalue(), kind))
    assert np.abs(seen[..., 0].astype(int) - RAMP).max() <= 1
    assert (seen == seen[..., :1]).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_photo_is_upright_and_boxes_follow(tmp_path, orientation, kind):
    pixels = np.zeros((32, 64, 3), dtype=np.uint8)
    pixels[4:12, 8:24] = 255  # the object
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a", format=kind, exif=exif, **({} if kind == "PNG" else {"quality": 99}))
    source = Photos(tmp_path, ["a"], (Box("it", 8, 4, 24, 12),))
    (record,) = source.records("test")
    seen = np.asarray(source.image(record)).astype(int)[..., 0]
    assert seen.shape == ((64, 32) if orientation > 4 else (32, 64))
    (box,) = source.upright(record).boxes
    expected = np.zeros_like(seen)
    expected[int(box.top) : int(box.bottom), int(box.left) : int(box.right)] = 255
    assert np.abs(seen - expected).mean() < 5
    with Image.open(tmp_path / "a") as plain:
        assert as_image(tmp_path / "a").tobytes() == ImageOps.exif_transpose(plain).tobytes()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_damaged_exif_turns_nothing(kind):
    file = io.BytesIO()
    Image.new("RGB", (16, 8)).save(file, kind, exif=b"Exif\0\0junk")
    assert image_in(file.getvalue(), kind).size == (16, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L", "1"])
def test_what_is_transparent_is_white(mode):
    file = io.BytesIO()
    if mode in ("RGBA", "LA"):
        Image.new(mode, (8, 8)).save(file, "PNG")
    else:
        clear = (0, 0, 0) if mode == "RGB" else 0
        Image.new(mode, (8, 8)).save(file, "PNG", transparency=clear)
    assert (np.asarray(image_in(file.getvalue(), mode)) == 255).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM"])
def test_what_we_mean_to_read_is_read(kind):
    file = io.BytesIO()
    Image.new("RGB", (16, 8), (250, 10, 10)).save(file, kind)
    with opened(file.getvalue(), kind) as image:
        check_decodes(image, kind)
    seen = np.asarray(image_in(file.getvalue(), kind)).astype(int)
    assert np.abs(seen - (250, 10, 10)).max() < 12


# -- refused in one line ----------------------------------------------------------------------


def png_of(width, height, *chunks):
    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [("IHDR", header), *chunks, ("IDAT", zlib.compress(b"\0")), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(n.encode(), d) for n, d in parts)


def saved(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(file, kind, **options)
    return file.getvalue()


def text_of(size):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * size, zip=True)
    return saved("PNG", pnginfo=info)


def damaged_avif():
    data = bytearray(saved("AVIF"))
    data[-40:] = b"\0" * 40
    return bytes(data)


BAD = {
    "empty": b"",
    "text": b"no photo\n",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
    "PDF": b"%PDF-1.4\n%%EOF",
    "ICO": saved("ICO"),
    "TGA": saved("TGA"),
    "JPEG 2000": saved("JPEG2000"),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "200 megapixels": png_of(20_000, 10_000),
    "a bomb": png_of(2**31 - 1, 2**31 - 1),
    "no pixels": png_of(0, 0),
    "too narrow": png_of(1, 60_000),
    "a long text chunk": text_of(4_000_000),
    "PNG, cut": saved("PNG")[:50],
    "JPEG, cut": saved("JPEG")[:-20],
    "WEBP, cut": saved("WEBP")[:30],
    "GIF, cut": saved("GIF")[:20],
    "TIFF, cut": saved("TIFF")[:60],
    "AVIF, damaged": damaged_avif(),
    "PPM, no number": b"P6\n2x 8\n255\n" + b"a" * 999,
}


def nan():
    file = io.BytesIO()
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    tiff(values)(file)
    return file.getvalue()


BAD["NaN"] = nan()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_photo_is_one_line_and_skipped_where_asked(tmp_path, kind):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    (tmp_path / "bad.png").write_bytes(BAD[kind])
    source = Photos(tmp_path, ["a.png", "bad.png"])
    for read in (source.verify, source.image):
        with pytest.raises(InputError, match=r"photo \S+bad\.png does not decode: .") as caught:
            read(source.records("test")[1])
        assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match="skipped 1 bad of 2 photos"):
        kept = ITMDataModule(source, on_bad_image="skip").records("test")
    assert [record.location for record in kept] == ["a.png"]


@pytest.mark.parametrize("name", ["a\0b.jpg", "a\ud800.jpg", "a" * 300 + ".jpg", "x/" * 3000, "."])
def test_impossible_names_are_one_line_and_skipped_where_asked(tmp_path, name):
    (tmp_path / "a.png").write_bytes(saved("PNG"))
    source = Photos(tmp_path, ["a.png", name])
    with pytest.raises(InputError, match="photo ") as caught:
        source.verify(source.records("test")[1])
    str(caught.value).encode()  # it can be printed
    with pytest.warns(UserWarning, match="skipped 1 bad of 2 photos"):
        assert len(ITMDataModule(source, on_bad_image="skip").records("test")) == 1


def link(folder, outside):
    (folder / "link.png").symlink_to(outside / "secret.png")
    return "link.png"


def linked_folder(folder, outside):
    (folder / "more").symlink_to(outside, target_is_directory=True)
    return "more/secret.png"


LEADING_OUT = {
    "dots": lambda folder, outside: f"../{outside.name}/secret.png",
    "dots within": lambda folder, outside: f"sub/../../{outside.name}/secret.png",
    "absolute": lambda folder, outside: str(outside / "secret.png"),
    "a link": link,
    "a linked folder": linked_folder,
}


@pytest.mark.parametrize("way", LEADING_OUT)
def test_a_name_leads_out_of_the_folder_only_where_the_user_allows_it(tmp_path, way, monkeypatch):
    folder, outside = tmp_path / "data", tmp_path / "data-secret"
    (folder / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(saved("PNG"))
    source = Photos(folder, [LEADING_OUT[way](folder, outside)])
    (record,) = source.records("test")
    for read in (source.verify, source.image, source.encoded):
        with pytest.raises(InputError, match=r"lies outside of .*allow_outside: true"):
            read(record)
    monkeypatch.chdir(folder)
    relative = Photos(".", [record.location])
    with pytest.raises(InputError, match="lies outside of"):
        relative.verify(record)
    source.allow_outside = True
    assert source.image(record).size == (16, 8)


def test_a_linked_image_folder_is_the_users_own(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(saved("PNG"))
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "dataset_x.json").write_text(
        '{"images": [{"filename": "a.png", "split": "test", "imgid": 0, '
        '"sentences": [{"raw": "a", "sentid": 0}]}]}'
    )
    source = Karpathy(str(tmp_path))
    assert source.image(source.records("test")[0]).size == (16, 8)


def socket_at(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [os.mkfifo, socket_at, os.mkdir])
def test_pipes_and_devices_are_never_opened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    make("a.png")
    source = Photos(tmp_path, ["a.png"])
    with pytest.raises(InputError, match=r"a\.png is (a pipe or a device|a folder): name a file"):
        source.verify(source.records("test")[0])
    with pytest.raises(InputError, match="name a file"):
        as_image("/dev/zero" if make is os.mkfifo else "a.png")


def test_control_characters_of_a_name_are_not_printed(tmp_path):
    source = Photos(tmp_path, ["\x1b]0;owned\x07\x1b[2J\u202egnp.a.png"])
    with pytest.raises(InputError, match="is missing") as caught:
        source.verify(source.records("test")[0])
    assert r"\x1b]0;owned\x07\x1b[2J\u202egnp" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", [float("nan"), 1e9])
def test_tokens_that_no_half_can_hold_name_their_photo(tmp_path, value):
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 4), "white" if name == "b.png" else "black").save(tmp_path / name)
    source = Photos(tmp_path, ["a.png", "b.png"])

    def trunk(pixels):
        return torch.where(pixels > 0, value, 0.0).flatten(2)

    with pytest.raises(InputError, match=r"tokens of photo b\.png are NaN, or too large"):
        frozen_tokens(
            *(trunk, source.records("train"), DecodedImages(source, to_tensor), 1),
            *(torch.device("cpu"), 0, 0, "title"),
        )


# -- whatever the bytes are -------------------------------------------------------------------

SEEDS = [saved(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")]
CHANGES = st.tuples(st.sampled_from(SEEDS), st.integers(0, 2**32), st.integers(1, 12))


def read_or_one_line(change):
    data, seed, count = bytearray(change[0]), random.Random(change[1]), change[2]
    for _ in range(count):
        place = seed.randrange(len(data))
        cut = seed.random() < 0.1
        data[place : len(data) if cut else place + 1] = seed.randbytes(seed.choice((0, 1, 1, 1, 4)))
        data = data or bytearray(1)
    for read in (image_in, decoded_cheaply):
        said, image = "", None
        try:
            image = read(bytes(data), "a")
        except InputError as error:
            said = str(error)
        assert said.isprintable()
        assert image is None or image.mode == "RGB"


def decoded_cheaply(data, name):
    with opened(data, name) as image:
        check_decodes(image, name)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(CHANGES)
def test_any_bytes_are_read_or_one_line(change):
    read_or_one_line(change)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(CHANGES)
def test_any_bytes_are_read_or_one_line_2000_times(change):
    read_or_one_line(change)


def test_images_in_memory_are_as_those_in_files():
    image = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert np.abs(np.asarray(as_image(image))[..., 0].astype(int) - RAMP).max() <= 1
    assert np.array_equal(as_rgb(Image.new("RGBA", (4, 4))), np.full((4, 4, 3), 255))
