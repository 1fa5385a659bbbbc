"""What a checkpoint holds, in the form from which a run goes on with any strategy."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

Group = dict[str, Any]
State = dict[str, Any]


def rejoined(state: State) -> State:
    """An optimiser's state dict as if :func:`~itm_lightning.sharding.separate` had not been.

    Args:
        state: parameters by number; left as it is where it is empty, as on all processes but the
            first, or has them by name, as in a folder of shards.
    """
    groups: list[Group] = []
    for group in state.get("param_groups", []):
        if not all(isinstance(number, int) for number in group["params"]):
            return state
        if groups and _settings(groups[-1]) == _settings(group):
            groups[-1]["params"] = sorted([*groups[-1]["params"], *group["params"]])
        else:
            groups.append(dict(group))
    return {**state, "param_groups": groups} if groups else state


def renumbered(state: State, optimizer: Optimizer, module: nn.Module) -> State:
    """An optimiser's state dict with parameters numbered as the module's are, the frozen included.

    An optimiser does not care about the numbers; where shards go on from it, they must be these.
    """
    places = {id(parameter): place for place, parameter in enumerate(module.parameters())}
    numbers = [places[id(p)] for group in optimizer.param_groups for p in group["params"]]
    groups = [{**g, "params": [numbers[n] for n in g["params"]]} for g in state["param_groups"]]
    values = {numbers[number]: value for number, value in state["state"].items()}
    return {**state, "state": values, "param_groups": groups}


def laid_out(state: State) -> State:
    """A state dict whose tensors lie in the order of their indices.

    torch hands a tensor's memory to the other processes as it is: a convolution's with channels
    last would arrive in disorder.
    """

    def in_order(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: in_order(item) for name, item in value.items()}
        return value.contiguous() if isinstance(value, Tensor) else value

    return in_order(state)


def _settings(group: Group) -> Group:
    return {name: value for name, value in group.items() if name != "params"}
