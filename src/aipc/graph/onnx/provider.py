"""What an ONNX graph must look like for each execution provider of ONNX Runtime.

Source: ONNX Runtime's table of operator kernels, and the graphs that ONNX Runtime GenAI's own builder writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from aipc.graph.onnx.genai_names import PROVIDER_OF_DEVICE


@dataclass(frozen=True)
class Provider:
    """`options` is the entry of genai_config.json's `provider_options`; None is the CPU, which has none.

    `half` providers compute in FP16, the others in FP32. `rotates` says that GroupQueryAttention takes packed
    query, key and value and turns them itself; where it does not, they come apart and turned, and the model has
    `position_ids`. `branches` allows `If`; `gathers_codes` allows an embedding that stays quantised.
    """

    name: str
    half: bool
    rotates: bool = True
    branches: bool = True
    gathers_codes: bool = False
    has_windows: bool = True
    accuracy_level: int | None = None
    options: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def kind(self) -> int:
        """ONNX's number of the element type that it computes in: FLOAT16 or FLOAT."""
        return 10 if self.half else 1


PROVIDERS = MappingProxyType(
    {
        # Level 4 lets MatMulNBits quantise the activations to INT8: prefill and decode about twice as fast.
        "cpu": Provider("cpu", half=False, gathers_codes=True, accuracy_level=4),
        "cuda": Provider(
            "cuda", half=True, gathers_codes=True, options={PROVIDER_OF_DEVICE["cuda"]: {"enable_cuda_graph": "0"}}
        ),
        # Captured graphs make decoding faster and allow no operator that runs elsewhere, which `If` does.
        "directml": Provider(
            "directml",
            half=True,
            rotates=False,
            branches=False,
            has_windows=False,
            options={PROVIDER_OF_DEVICE["directml"]: {"enable_graph_capture": "1"}},
        ),
    }
)
