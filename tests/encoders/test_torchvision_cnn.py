import contextlib
import pickle
from pathlib import Path

import pytest
import torch

from itm_lightning.encoders import TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.part import skip_pretrained

MOBILENET = Path(__file__).resolve().parents[3] / "shared/weights/mobilenet_v2.pth"
slow = pytest.mark.slow

# name, image_size, tokens, width: read off the architectures' papers and torchvision's source
FAMILIES = [
    ("alexnet", 96, 4, 256),
    ("resnet18", 64, 4, 512),
    ("resnet18", 32, 1, 512),
    ("shufflenet_v2_x0_5", 64, 4, 1024),
    ("squeezenet1_1", 64, 9, 512),
    ("googlenet", 64, 4, 1024),
    ("mobilenet_v2", 96, 9, 1280),
    ("mobilenet_v3_small", 64, 4, 576),
    ("regnet_y_400mf", 64, 4, 440),
    ("mnasnet0_5", 64, 4, 1280),
    ("efficientnet_b0", 64, 4, 1280),
    ("swin_t", 64, 4, 768),
    # in the fast tests, test_grid_is_the_networks_own speaks for the next two
    pytest.param("densenet121", 64, 4, 1024, marks=slow),
    pytest.param("vit_b_32", 64, 4, 768, marks=slow),
    pytest.param("vgg11", 64, 4, 512, marks=slow),
    pytest.param("resnext50_32x4d", 64, 4, 2048, marks=slow),
    pytest.param("wide_resnet50_2", 64, 4, 2048, marks=slow),
    pytest.param("inception_v3", 112, 4, 2048, marks=slow),
    pytest.param("convnext_tiny", 64, 4, 768, marks=slow),
    pytest.param("swin_v2_t", 64, 4, 768, marks=slow),
    pytest.param("maxvit_t", 224, 49, 512, marks=slow),
]


@pytest.mark.parametrize(("name", "size", "length", "dim"), FAMILIES)
def test_last_grid_of_every_family(name, size, length, dim):
    encoder = TorchvisionCNN(name, image_size=size)
    assert encoder.dim == dim
    pixels = torch.rand(2, 3, size, size)
    for mode in (True, False):
        if mode and length == 1:
            continue  # batch normalisation of so few values is unstable
        assert encoder.train(mode)(pixels).tokens.shape == (2, length, dim)
    heads = ("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2.")
    assert not [name for name, _ in encoder.network.named_parameters() if name.startswith(heads)]


def test_grid_is_the_networks_own():
    """Computed once more with torchvision's modules by hand; places run row by row."""
    from torchvision.models import densenet121, vit_b_32

    network = densenet121().eval()
    encoder = TorchvisionCNN("densenet121", image_size=64).eval()
    encoder.network.load_state_dict(network.state_dict(), strict=False)
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        grid = network.features(pixels).relu()  # torchvision's forward has this relu
        tokens = encoder(pixels).tokens
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(tokens[0, 2 * row + column], grid[0, :, row, column])

    network = vit_b_32(image_size=64).eval()
    encoder = TorchvisionCNN("vit_b_32", image_size=64).eval()
    encoder.network.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        patches = network._process_input(pixels)
        sequence = torch.cat([network.class_token.expand(1, -1, -1), patches], dim=1)
        expected = network.encoder(sequence)[:, 1:]
        torch.testing.assert_close(encoder(pixels).tokens, expected)


def test_weights_from_a_file(tmp_path):
    from torchvision.models import resnet18

    state = resnet18(num_classes=7).state_dict()  # another head is no matter
    torch.save(state, tmp_path / "weights.pth")
    encoder = TorchvisionCNN("resnet18", weights=str(tmp_path / "weights.pth"), image_size=64)
    loaded = encoder.network.state_dict()
    assert "fc.weight" not in loaded
    assert len(loaded) == len(state) - 2
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)


def test_google_networks_with_weights_take_usual_normalisation(tmp_path):
    """torchvision transforms their input; a rebuilt network must go on doing so."""
    from torchvision.models import googlenet

    network = googlenet(transform_input=True, init_weights=False).eval()
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    arguments = {"weights": str(tmp_path / "weights.pth"), "image_size": 64}
    encoder = TorchvisionCNN("googlenet", **arguments).eval()
    pixels = torch.rand(2, 3, 64, 64)
    x = network._transform_input(pixels)
    for name, module in network.named_children():
        if name.startswith("aux"):
            continue
        if name == "avgpool":
            break
        x = module(x)
    torch.testing.assert_close(encoder(pixels).tokens, x.flatten(2).transpose(1, 2))
    (tmp_path / "weights.pth").unlink()
    with skip_pretrained():
        again = TorchvisionCNN("googlenet", **arguments)
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again.eval()(pixels).tokens, encoder(pixels).tokens)


@pytest.mark.skipif(not MOBILENET.exists(), reason="needs ../shared/weights/mobilenet_v2.pth")
def test_shared_mobilenet():
    encoder = TorchvisionCNN("mobilenet_v2", weights=str(MOBILENET), trainable=False)
    state = torch.load(MOBILENET, weights_only=True)
    loaded = encoder.network.state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in loaded)
    assert encoder(torch.rand(1, 3, 224, 224)).tokens.shape == (1, 49, 1280)


def damaged(tmp_path, change):
    from torchvision.models import resnet18

    state = resnet18().state_dict()
    change(state)
    torch.save(state, tmp_path / "w.pth")
    return str(tmp_path / "w.pth")


CHANGES = {
    "1 missing (conv1.weight)": lambda s: s.pop("conv1.weight"),
    "1 unexpected (extra)": lambda s: s.update(extra=torch.ones(1)),
    "1 of another shape (bn1.bias (3,) instead of (64,))": lambda s: s.update(
        {"bn1.bias": torch.ones(3)}
    ),
    "5 missing (conv1.weight, bn1.weight, bn1.bias, …), 1 unexpected (other)": lambda s: (
        s.update({"other": s.pop("conv1.weight")})
        or [s.pop(k) for k in list(s) if k.startswith("bn1.")]
    ),
}


@pytest.mark.parametrize("message", CHANGES)
def test_weights_that_do_not_fit_are_named(tmp_path, message):
    path = damaged(tmp_path, CHANGES[message])
    with pytest.raises(InputError) as error:
        TorchvisionCNN("resnet18", weights=path, image_size=64)
    assert message in str(error.value)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_no_weights(tmp_path):
    text, numbers, pickled = (tmp_path / name for name in ("a.pth", "b.pth", "c.pth"))
    text.write_text("not weights")
    torch.save([1, 2], numbers)
    pickled.write_bytes(pickle.dumps(contextlib.nullcontext(), protocol=2))
    for path, message in [
        (tmp_path / "none.pth", "there is no weights file"),
        (text, "cannot be read"),
        (numbers, "holds no state dict"),
        (pickled, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=message) as error:
            TorchvisionCNN("squeezenet1_1", weights=str(path), image_size=64)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, r"'resnet81' \(did you mean resnet18\?\); .*list_models"),
        ({"name": "vit_b_32", "image_size": 100}, "vit_b_32 with image_size 100"),
        ({"name": "maxvit_t", "image_size": 100}, "maxvit_t with image_size 100"),
        ({"name": "alexnet", "image_size": 16}, "alexnet does not take images of 16×16"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        TorchvisionCNN(**arguments)
    assert "\n" not in str(error.value)


def test_default_weights_offline(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(InputError, match=r"resnet18 cannot be downloaded .*give the path"):
        TorchvisionCNN("resnet18", weights="DEFAULT", image_size=64)
    with skip_pretrained():  # asks for no download
        assert TorchvisionCNN("resnet18", weights="DEFAULT", image_size=64).dim == 512


def test_images_are_squashed_and_normalised(image):
    encoder = TorchvisionCNN("squeezenet1_1", image_size=40)
    pixels = encoder.transform(train=False)(image)
    assert pixels.shape == (3, 40, 40)
    values = torch.tensor(list(image.resize((40, 40), 2).tobytes())).view(40, 40, 3) / 255
    expected = (values - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(encoder.normalise(pixels), expected.permute(2, 0, 1))
    assert torch.equal(encoder.normalise(expected), expected)  # floats are normalised already


def test_compiles():
    encoder = TorchvisionCNN("squeezenet1_1", image_size=64).eval()
    pixels = torch.rand(2, 3, 64, 64)
    expected = encoder(pixels)
    encoder.compile(backend="eager")
    torch.testing.assert_close(encoder(pixels).pooled, expected.pooled)
