"""A second device without hardware, so that what would fail on a GPU alone fails in the suite.

Tensors that lie there hold their numbers on the CPU and refuse what a GPU's refuse: to meet a
tensor of the CPU in one operation, unless that is a single number or an index.
"""

import contextlib
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

THERE = torch.device("meta")  # the one device that every build of torch knows, and no test uses
_ops = torch.ops.aten
_MOVES = {_ops._to_copy.default, _ops.copy_.default}
_INDEXES = {_ops.index.Tensor, _ops.index_put_.default, _ops.index_put.default}
_autocast, _tensor = torch.autocast, torch.tensor


class _There(torch.Tensor):
    """A tensor on the second device; ``here`` are its numbers."""

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(
            cls, here.shape, **layout, dtype=here.dtype, device=THERE
        )
        made.here = here
        return made

    def __tensor_flatten__(self):  # with this, modules move by swapping their parameters
        return ["here"], None

    @staticmethod
    def __tensor_unflatten__(inner, *_):
        return _There(inner["here"])

    def tolist(self):
        return self.here.tolist()

    def numpy(self):
        raise TypeError("can't convert a tensor of the second device to numpy: use Tensor.cpu()")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        with _Devices():
            return function(*args, **(kwargs or {}))


class _Devices(TorchDispatchMode):
    """Runs every operation on the CPU, and gives its result to the device where it belongs."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        goes_there = any(isinstance(each, _There) for each in tensors)
        if goes_there and function not in _MOVES:
            if function in _INDEXES:  # indices may lie on the CPU, if what they index does not
                tensors = [args[0], *args[2:3]]
            if any(each.dim() and not isinstance(each, _There) for each in tensors):
                raise RuntimeError(f"{function}: tensors of two devices")
        if kwargs.get("device") is not None:
            goes_there = torch.device(kwargs["device"]) == THERE
            kwargs["device"] = torch.device("cpu")
        elif function is _ops.copy_.default:
            goes_there = isinstance(args[0], _There)
        here = tree_map_only(_There, lambda each: each.here, (args, kwargs))
        result = function(*here[0], **here[1])
        if function._schema.is_mutable:  # in place
            return args[0]
        return tree_map_only(torch.Tensor, _There, result) if goes_there else result


def _made(data, *, device=None, **options):
    made = _tensor(data, **options)
    return made if device is None else made.to(device)


def _no_autocast(device_type, *args, **options):
    on_cpu = device_type != THERE.type
    return _autocast(device_type, *args, **options) if on_cpu else contextlib.nullcontext()


@contextlib.contextmanager
def second_device():
    """In here, :data:`THERE` is a device with numbers."""
    # these two ask for the device before an operation does
    with mock.patch("torch.tensor", _made), mock.patch("torch.autocast", _no_autocast), _Devices():
        yield THERE
