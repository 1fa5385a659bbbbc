"""Which parts become shards, and that a sharded trunk computes the same."""

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from itm_lightning.encoders import PretrainedText, PretrainedVision, RecurrentText, TorchvisionCNN
from itm_lightning.sharding import blocks, clip_norm, clip_value, separate, shard, shardable
from tests.encoders.conftest import MODELS, TEXTS

IMAGES = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
TEXT = ("bert", "t5", "clip", "siglip")
KINDS = [(name, PretrainedText) for name in TEXT] + [
    (name, PretrainedVision) for name in MODELS if name not in {"bert", "t5"}
]


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """A process group of this process alone."""
    store = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def computed(encoder, inputs):
    """Tokens and gradients."""
    tokens = encoder(inputs).tokens
    tokens.square().sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return tokens.detach(), {name: whole(gradient) for name, gradient in gradients.items()}


def assert_same_sharded(encoder, inputs, mesh):
    tokens, gradients = computed(encoder, inputs)
    shard(encoder, [encoder.network], mesh, torch.device("cpu"))
    sharded = [p for p in encoder.network.parameters() if isinstance(p, DTensor)]
    assert len(sharded) == len(list(encoder.network.parameters()))
    for _ in range(2):  # as it was, or computed anew
        found, of_shards = computed(encoder, inputs)
        torch.testing.assert_close(found, tokens)
        torch.testing.assert_close(of_shards, gradients)
    encoder.train().eval()  # graphs of torchvision are exchanged
    torch.testing.assert_close(computed(encoder, inputs)[0], tokens)
    shard(encoder, [encoder.network], mesh, torch.device("cpu"))  # once is enough
    torch.testing.assert_close(computed(encoder, inputs)[0], tokens)


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_a_pretrained_trunk_is_sharded_block_by_block(folders, mesh, name, kind):
    encoder = kind(folders(name)).eval()
    layers = list(blocks(encoder.network))
    assert len(layers) == (1 if name == "t5" else 2)
    assert_same_sharded(encoder, TEXTS if kind is PretrainedText else IMAGES, mesh)
    assert all(isinstance(layer, FSDPModule) for layer in layers)


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", pytest.param("vit_b_32", marks=pytest.mark.slow)]
)
def test_a_network_of_torchvision_is_sharded_as_a_whole(mesh, name):
    encoder = TorchvisionCNN(name, image_size=32).eval()
    assert_same_sharded(encoder, IMAGES, mesh)


def test_recurrent_networks_stay_whole():
    assert not shardable(RecurrentText(hidden=4, word_dim=4).network)
    assert not shardable(nn.Identity())


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shards_and_whole(mesh, scale):
    """A module of which the first half is sharded, with gradients; and these."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    gradients = [scale * torch.randn_like(parameter) for parameter in module.parameters()]
    shard(module, [module[0]], mesh, torch.device("cpu"))
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        own = gradient.clone()
        sharded = isinstance(parameter, DTensor)
        parameter.grad = DTensor.from_local(own, mesh, parameter.placements) if sharded else own
    return module, gradients


@pytest.mark.parametrize(
    ("clip", "reference"),
    [
        (clip_norm, nn.utils.clip_grad_norm_),
        (clip_value, nn.utils.clip_grad_value_),
    ],
)
@pytest.mark.parametrize("scale", [0.01, 5.0])
def test_clips_as_torch_does(mesh, clip, reference, scale):
    module, gradients = shards_and_whole(mesh, scale)
    plain = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for parameter, gradient in zip(plain, gradients, strict=True):
        parameter.grad = gradient
    reference(plain, 0.5)
    clip(module.parameters(), 0.5)
    for parameter, expected in zip(module.parameters(), plain, strict=True):
        torch.testing.assert_close(whole(parameter.grad), expected.grad)


def test_a_step_goes_through_all_tensors_of_a_group_at_once(mesh):
    module, _ = shards_and_whole(mesh, 1.0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1, foreach=True)
    separate(optimizer)
    before = [whole(parameter).detach().clone() for parameter in module.parameters()]
    optimizer.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1]
    assert not any(
        old.equal(whole(new)) for old, new in zip(before, module.parameters(), strict=True)
    )
