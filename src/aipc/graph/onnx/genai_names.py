"""Names that ONNX Runtime GenAI gives to what aipc calls otherwise, for all who write or read its files.

Source: ONNX Runtime GenAI's configuration reference.
"""

from __future__ import annotations

from types import MappingProxyType

# Execution providers, in genai_config.json and in GenAI's Python API.
PROVIDER_OF_DEVICE = MappingProxyType({"cpu": "cpu", "directml": "dml", "cuda": "cuda"})
DEVICE_OF_PROVIDER = MappingProxyType({provider: device for device, provider in PROVIDER_OF_DEVICE.items()})

# model.type: GenAI computes a phi3 sequence anew when it grows past 4096 tokens, as LongRoPE needs; others it does not.
REWINDS, PLAIN = "phi3", "llama"
