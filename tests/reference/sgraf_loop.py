"""SGRAF (Diao et al., AAAI 2021) in evaluation, caption by caption.

Its parameters come as a dict under the names of the authors' published checkpoints.
"""

import math

import torch
from torch.nn import functional as F

from tests.reference.scan_loop import attended_vectors


def sgr_scores(images, texts, lengths, state):
    """Scores (N, M) by similarity graph reasoning, in as many steps as there are parameters."""
    return _scores(images, texts, lengths, state, _reason)


def saf_scores(images, texts, lengths, state):
    """Scores (N, M) by similarity attention filtration."""
    return _scores(images, texts, lengths, state, _filter)


def _scores(images, texts, lengths, state, match):
    golden_images = _image_vectors(images, state)
    columns = []
    for text, length in zip(texts, lengths.tolist(), strict=True):
        words = text[:length].expand(len(images), -1, -1)
        sentence = _sentence_vector(text[:length], state)
        attended = F.normalize(attended_vectors(words, images, 9.0), dim=-1)
        local = _similarity_vectors(attended, words, state, "sim_tranloc_w")
        overall = _similarity_vectors(golden_images, sentence, state, "sim_tranglo_w")
        nodes = torch.cat([overall.unsqueeze(1), local], dim=1)  # (N, 1 + words, S)
        score = _linear(match(nodes, state), state, "sim_eval_w").sigmoid()
        columns.append(score.squeeze(1))
    return torch.stack(columns, dim=1)


def _similarity_vectors(left, right, state, name):
    return F.normalize(_linear((left - right) ** 2, state, name), dim=-1)


def _reason(nodes, state):
    steps = sum(name.endswith("sim_graph_w.weight") for name in state)
    for step in range(steps):
        name = f"SGR_module.{step}."
        queries = _linear(nodes, state, name + "graph_query_w")
        keys = _linear(nodes, state, name + "graph_key_w")
        edges = (queries @ keys.mT).softmax(dim=-1)
        nodes = _linear(edges @ nodes, state, name + "sim_graph_w").relu()
    return nodes[:, 0]


def _filter(nodes, state):
    logits = _linear(nodes, state, "SAF_module.attn_sim_w").mT  # (N, 1, nodes)
    gates = _batch_norm(logits, state, "SAF_module.bn").sigmoid()
    weights = gates / gates.sum(dim=-1, keepdim=True)
    return F.normalize((weights @ nodes).squeeze(1), dim=-1)


def _image_vectors(images, state):
    name = "v_global_w.embedding_"
    local = _batch_norm(_linear(images, state, name + "local.0"), state, name + "local.1")
    mean = _linear(images.mean(dim=1), state, name + "global.0")
    overall = _batch_norm(mean, state, name + "global.1")
    gates = local.tanh() * overall.tanh().unsqueeze(1)
    weights = _linear(gates, state, name + "common.0").softmax(dim=1)
    return F.normalize((weights * images).sum(dim=1), dim=-1)


def _sentence_vector(words, state):
    name = "t_global_w.embedding_"
    local = _linear(words, state, name + "local.0").tanh()
    overall = _linear(words.mean(dim=0), state, name + "global.0").tanh()
    weights = _linear(local * overall, state, name + "common.0").softmax(dim=0)
    return F.normalize((weights * words).sum(dim=0), dim=-1)


def _linear(values, state, name):
    return F.linear(values, state[f"{name}.weight"], state[f"{name}.bias"])


def _batch_norm(values, state, name):
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(values, *(state[f"{name}.{kind}"] for kind in names))


def made_up_state(head, dim, sim_dim, regions=36, steps=3, seed=0, dtype=torch.float64):
    """Random parameters under the authors' names, for ``head`` ``"SGR"`` or ``"SAF"``."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def linear(name, inputs, outputs):
        weight = torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs)
        bias = torch.randn(outputs, generator=generator) / 10
        state.update({f"{name}.weight": weight, f"{name}.bias": bias})

    def batch_norm(name, channels):
        for kind in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{kind}"] = torch.rand(channels, generator=generator) + 0.5

    for side in ("v_global_w", "t_global_w"):
        linear(f"{side}.embedding_local.0", dim, dim)
        linear(f"{side}.embedding_global.0", dim, dim)
        linear(f"{side}.embedding_common.0", dim, 1)
    batch_norm("v_global_w.embedding_local.1", regions)
    batch_norm("v_global_w.embedding_global.1", dim)
    linear("sim_tranloc_w", dim, sim_dim)
    linear("sim_tranglo_w", dim, sim_dim)
    linear("sim_eval_w", sim_dim, 1)
    if head == "SGR":
        for step in range(steps):
            for kind in ("graph_query_w", "graph_key_w", "sim_graph_w"):
                linear(f"SGR_module.{step}.{kind}", sim_dim, sim_dim)
    else:
        linear("SAF_module.attn_sim_w", sim_dim, 1)
        batch_norm("SAF_module.bn", 1)
    return {name: value.to(dtype) for name, value in state.items()}
