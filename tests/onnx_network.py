"""Runs of an ONNX model by ONNX Runtime alone, driven as any program drives one with a KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


class OnnxNetwork:
    """One sequence on the CPU. Activations stay as they are: at accuracy level 4 they would be rounded to INT8."""

    def __init__(self, model_dir: Path) -> None:
        file = model_dir / "model.onnx"
        model = onnx.load(file, load_external_data=False)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = 0
        exact = model_dir / "exact.onnx"  # beside the data that it refers to
        exact.write_bytes(model.SerializeToString())
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self._session = ort.InferenceSession(exact, options, providers=["CPUExecutionProvider"])
        self.reset()

    def reset(self) -> None:
        self._tokens = 0
        self._past: dict[str, np.ndarray] = {}

    def last_logits(self, token_ids: Sequence[int]) -> np.ndarray:
        """(vocabulary), after the last of these tokens, which follow those before."""
        before, self._tokens = self._tokens, self._tokens + len(token_ids)
        feeds = {
            "input_ids": np.array([token_ids], np.int64),
            "attention_mask": np.ones((1, self._tokens), np.int64),
            "position_ids": np.arange(before, self._tokens)[None],
        }
        inputs = self._session.get_inputs()
        for one in inputs:
            if one.name.startswith("past"):
                kind = np.float16 if "float16" in one.type else np.float32
                empty = np.zeros((1, one.shape[1], 0, one.shape[3]), kind)
                feeds[one.name] = self._past.get(one.name, empty)
        names = [one.name for one in self._session.get_outputs()]
        wanted = {one.name for one in inputs}
        found = dict(zip(names, self._session.run(None, {k: v for k, v in feeds.items() if k in wanted}), strict=True))
        logits = found.pop("logits")
        self._past = {name.replace("present", "past_key_values"): value for name, value in found.items()}
        return logits[0, -1].astype(np.float32)
