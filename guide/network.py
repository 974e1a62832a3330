"""The guide's network in PyTorch: Phi-3's architecture in small, written plainly. Names are the checkpoint's.

While `rounding` is on, the linear weights are used as INT4 rounds them (groups of 128, symmetric, the scale aipc
takes), and gradients go through the rounding as if it were not there: so the weights learn to stand it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from guide.shape import Shape

INT4_GROUP = 128


class Linear(nn.Linear):
    """A linear layer without bias that can be used as if it were quantised."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.rounding = False

    def forward(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, rounded_to_int4(self.weight) if self.rounding else self.weight)


def rounded_to_int4(weight: Tensor) -> Tensor:
    """(outputs, inputs): the value farthest from zero in each group becomes the code −8, as in `aipc.quant.int4`."""
    groups = weight.detach().view(weight.shape[0], -1, INT4_GROUP)
    farthest = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    scale = (farthest / -8).half().to(weight.dtype)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    values = (groups / scale).round().clamp(-8, 7) * scale
    return weight + (values.view_as(weight) - weight.detach())


class RmsNorm(nn.Module):
    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        wide = hidden.float()
        return (self.weight * wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)).to(hidden.dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.qkv_proj = Linear(shape.hidden_size, 3 * shape.hidden_size)
        self.o_proj = Linear(shape.hidden_size, shape.hidden_size)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, tokens, size = hidden.shape
        heads = (batch, tokens, 3, self.shape.num_attention_heads, self.shape.head_size)
        # (batch, heads, tokens, head size) each
        query, key, value = self.qkv_proj(hidden).view(heads).permute(2, 0, 3, 1, 4)
        query, key = turned(query, cos, sin), turned(key, cos, sin)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.o_proj(attended.transpose(1, 2).reshape(batch, tokens, size))


def turned(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE by halves: (batch, heads, tokens, size), with cos and sin (tokens, size)."""
    first, second = heads.chunk(2, -1)
    return heads * cos + torch.cat((-second, first), -1) * sin


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_up_proj = Linear(shape.hidden_size, 2 * shape.intermediate_size)
        self.down_proj = Linear(shape.intermediate_size, shape.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(hidden).chunk(2, -1)
        return self.down_proj(functional.silu(gate) * up)


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)
        self.mlp = Mlp(shape)

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cos, sin)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = RmsNorm(shape.hidden_size, shape.rms_norm_eps)


class Network(nn.Module):
    """Token ids (batch, tokens) to logits (batch, tokens, vocabulary). The head is the embedding."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.model = Body(shape)
        frequencies = shape.rope_theta ** -(torch.arange(0, shape.head_size, 2) / shape.head_size)
        angles = torch.outer(torch.arange(shape.max_position_embeddings), frequencies).repeat(1, 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Normal weights; those that write into the residual stream are smaller, by its number of additions."""
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.shape.initializer_range)
        for name in ("o_proj", "down_proj"):
            if isinstance(linear := getattr(module, name, None), Linear):
                spread = self.shape.initializer_range / (2 * self.shape.num_hidden_layers) ** 0.5
                nn.init.normal_(linear.weight, std=spread)

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.model.embed_tokens(ids)
        cos, sin = self.cos[: ids.shape[1]].to(hidden.dtype), self.sin[: ids.shape[1]].to(hidden.dtype)
        for layer in self.model.layers:
            hidden = layer(hidden, cos, sin)
        return functional.linear(self.model.norm(hidden), self.model.embed_tokens.weight)

    def round_weights(self, rounding: bool) -> None:
        """Use the linear weights as INT4 rounds them, or as they are."""
        for module in self.modules():
            if isinstance(module, Linear):
                module.rounding = rounding
