"""SGR: reasoning on a graph of similarity vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from itm_lightning.errors import Size
from itm_lightning.registry import register
from itm_lightning.similarity.sgraf.base import Sgraf


@register("similarity")
class SGR(Sgraf):
    """Similarity graph reasoning (SGRAF; Diao et al., AAAI 2021).

    The similarity vectors of a pair, one for each word and one of the global vectors, are the nodes
    of a graph; in each step every node attends to all nodes, and a linear layer scores the global
    one after the last step; scores are in (0, 1) (section "Similarity Graph Reasoning", with the
    biases of the authors' code):

    ``nodes ← relu(W softmax(Q nodes · K nodes) nodes)``

    Tokens are scaled to length 1, as by the authors' encoders. The authors' parameters can be
    loaded with :func:`itm_lightning.similarity.from_sgraf_state`.

    Args:
        dim: width of the tokens.
        sim_dim: width of the similarity vectors.
        steps: steps of reasoning.
        regions: the most regions that an image has. Batch normalisation in the image's
            self-attention has statistics for each; an image with fewer uses the first ones.

    Raises:
        InputError: there are no steps.
    """

    def __init__(self, dim: Size, sim_dim: Size = 256, steps: Size = 3, regions: Size = 36) -> None:
        super().__init__(dim, sim_dim, regions)
        self.reasoning = nn.ModuleList(GraphReasoning(sim_dim) for _ in range(steps))
        self.initialise()

    @override
    def match(self, vectors: Tensor, counts: Tensor) -> Tensor:
        # texts of one length at a time, so that no product is spent on padding
        lengths, group = counts.unique(return_inverse=True)
        rows = [(group == i).nonzero().squeeze(1) for i in range(len(lengths))]
        matched = [
            self._reason(vectors[:, of_length, :length])
            for of_length, length in zip(rows, lengths.tolist(), strict=True)
        ]
        return torch.cat(matched, dim=1)[:, torch.cat(rows).argsort()]

    def _reason(self, nodes: Tensor) -> Tensor:
        """The last state ``(..., S)`` of the first of the nodes ``(..., K, S)``."""
        *earlier, last = self.reasoning
        for step in earlier:
            nodes = step(nodes, nodes)
        # after the last step only the global node is needed
        return last(nodes[..., :1, :], nodes).squeeze(-2)


class GraphReasoning(nn.Module):
    """One step of reasoning: nodes attend to all nodes.

    Args:
        dim: width of the nodes.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)  # a bias would drop out of the softmax
        self.output = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, nodes: Tensor) -> Tensor:
        """The states ``(..., A, S)`` of the queries after this step.

        Args:
            queries: ``(..., A, S)``, some of the nodes.
            nodes: ``(..., K, S)``, all nodes, which the queries attend to.
        """
        # (Q x + q)·K y = (Kᵀ Q x + Kᵀ q)·y: one product for each node where the formula has two
        both, bias = self.key.weight.T @ self.query.weight, self.query.bias @ self.key.weight
        edges = (F.linear(queries, both, bias) @ nodes.mT).softmax(dim=-1)
        return self.output(edges @ nodes).relu()
