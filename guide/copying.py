"""Where a network starts from: attention that can already look back for what followed last time.

Copying, quoting and answering from a text all rest on two layers of attention (https://arxiv.org/abs/2209.11895): one
brings each token what stood before it, the next finds the place that had the present token before it, and takes what
stood there. Networks of this size find it by themselves only after hundreds of millions of tokens. `look_back` writes a
rough form of it into the first weights; all of them are trained afterwards, and learn to copy well in minutes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from guide.network import Attention, Network
from guide.shape import Shape

SEED = 7
# The part that all embeddings share, against the part of each one's own: what queries for a place can hold on to.
SHARED = 0.7
# RoPE's fastest frequencies tell neighbours apart, and their shares fall; the slowest ones hardly turn within a text.
FAST = (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
SLOW = 12
PLACE_SCORE = 30.0  # logits of attention to the token before, above that to tokens far away
MATCH_GAIN = 2.2
VALUE_GAIN = 3.0
HEADS_BACK = 2  # heads of the first layer that attend to the token before


def look_back(network: Network) -> None:
    """Write the two layers of attention into the weights of a network that was initialised as usual."""
    shape = network.shape
    random = torch.Generator().manual_seed(SEED)
    directions = torch.linalg.qr(torch.randn(shape.hidden_size, shape.hidden_size, generator=random))[0].T
    common, own = directions[0], directions[1:]
    carried = HEADS_BACK * shape.head_size
    read = own[torch.randperm(len(own), generator=random)[:carried]]
    written = own[torch.randperm(len(own), generator=random)[:carried]]
    with torch.no_grad():
        spread = _share_a_direction(network.model.embed_tokens.weight, common, shape)
        first, second = network.model.layers[0].self_attn, network.model.layers[1].self_attn
        _attend_to_the_token_before(first, common, read, written * spread)
        for head in range(shape.num_attention_heads):
            mix = torch.linalg.qr(torch.randn(carried, 2 * SLOW, generator=random))[0].T
            _find_what_followed(second, head, mix @ read, mix @ written, own, VALUE_GAIN * spread)


def _share_a_direction(embedding: Tensor, common: Tensor, shape: Shape) -> float:
    """Give all embeddings (vocabulary, hidden) the same part along `common`; returns their root mean square."""
    own = shape.initializer_range
    embedding -= torch.outer(embedding @ common, common)
    embedding += SHARED * own * math.sqrt(shape.hidden_size) * common
    return own * math.sqrt(1 + SHARED**2)


def _attend_to_the_token_before(attention: Attention, common: Tensor, read: Tensor, written: Tensor) -> None:
    """The query, turned back by one token, is the key; the value's part `read` goes to the directions `written`."""
    shape = attention.shape
    size, hidden = shape.head_size, shape.hidden_size
    frequencies = shape.rope_theta ** -(torch.arange(0, size, 2) / size)
    heights = torch.zeros(size // 2)
    heights[: len(FAST)] = torch.tensor(FAST) / sum(FAST) * PLACE_SCORE * math.sqrt(size)
    key = torch.cat([heights.sqrt(), torch.zeros(size // 2)])
    query = torch.cat([heights.sqrt() * frequencies.cos(), -heights.sqrt() * frequencies.sin()])
    # The first norm makes the common part of every embedding this long.
    length = math.sqrt(hidden) * SHARED / math.sqrt(1 + SHARED**2)
    for head in range(HEADS_BACK):
        rows = slice(head * size, (head + 1) * size)
        queries, keys, values = attention.qkv_proj.weight.view(3, hidden, hidden)
        queries[rows] = torch.outer(query, common) / length
        keys[rows] = torch.outer(key, common) / length
        values[rows] = read[rows]
        attention.o_proj.weight[:, rows] = written[rows].T


def _find_what_followed(
    attention: Attention, head: int, present: Tensor, before: Tensor, own: Tensor, gain: float
) -> None:
    """Where the token before was the present one, take a quarter (each head another) of the embedding as it is."""
    shape = attention.shape
    size, hidden = shape.head_size, shape.hidden_size
    slow = torch.cat([torch.arange(size // 2 - SLOW, size // 2), torch.arange(size - SLOW, size)])
    queries, keys, values = attention.qkv_proj.weight.view(3, hidden, hidden)
    rows = slice(head * size, (head + 1) * size)
    queries[rows], keys[rows] = 0, 0
    queries[head * size + slow] = present * MATCH_GAIN
    keys[head * size + slow] = before * MATCH_GAIN
    taken = own[head * (size - 1) : (head + 1) * (size - 1)]  # one direction of all is the common one
    values[head * size : head * size + len(taken)] = taken
    attention.o_proj.weight[:, head * size : head * size + len(taken)] = taken.T * gain
