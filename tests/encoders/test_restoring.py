import pytest

from itm_lightning.encoders import TorchvisionCNN, assets_at_hand, is_restoring, restoring
from itm_lightning.errors import InputError


def test_ends_with_its_block_even_on_error():
    assert not is_restoring()
    with restoring():
        assert is_restoring()
        assert assets_at_hand() == {}
    with restoring({"text_encoder": {"vocabulary": ["dog"]}}):
        assert assets_at_hand() == {"text_encoder": {"vocabulary": ["dog"]}}
    with pytest.raises(InputError), restoring():
        TorchvisionCNN("none")
    assert not is_restoring()
    assert assets_at_hand() == {}
