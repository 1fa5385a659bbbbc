import pytest

from itm_lightning.encoders import TorchvisionCNN
from itm_lightning.errors import InputError
from itm_lightning.part import given_extra_states, is_skipping_pretrained, skip_pretrained


def test_ends_with_its_block_even_on_error():
    assert not is_skipping_pretrained()
    with skip_pretrained():
        assert is_skipping_pretrained()
        assert given_extra_states() == {}
    with skip_pretrained({"text_encoder": {"vocabulary": ["dog"]}}):
        assert given_extra_states() == {"text_encoder": {"vocabulary": ["dog"]}}
    with pytest.raises(InputError), skip_pretrained():
        TorchvisionCNN("none")
    assert not is_skipping_pretrained()
    assert given_extra_states() == {}
