"""A one-layer decoder as an ONNX Runtime GenAI directory, drawn by hand so that a test can change any line of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

HIDDEN, HEADS, HEAD, VOCABULARY, BLOCK = 64, 2, 32, 96, 32
_MICROSOFT = "com.microsoft"


def write_decoder(
    directory: Path,
    *,
    change_config: Callable[[dict[str, Any]], None] = lambda config: None,
    change_graph: Callable[[Any], None] = lambda model: None,
    opset: int = 21,
) -> Path:
    """For DirectML, which asks most; `change_config` and `change_graph` get the documents before they are written."""
    import onnx

    directory.mkdir(parents=True, exist_ok=True)
    config = _config()
    change_config(config)
    (directory / "genai_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = _model(opset)
    change_graph(model)
    onnx.save(
        model,
        str(directory / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=64,
    )
    return directory


def node_of(model: Any, operator: str) -> Any:
    return next(node for node in model.graph.node if node.op_type == operator)


def _config() -> dict[str, Any]:
    return {
        "model": {
            "context_length": 256,
            "decoder": {
                "session_options": {"provider_options": [{"dml": {"enable_graph_capture": "1"}}]},
                "filename": "model.onnx",
                "head_size": HEAD,
                "hidden_size": HIDDEN,
                "inputs": {
                    "input_ids": "input_ids",
                    "attention_mask": "attention_mask",
                    "position_ids": "position_ids",
                    "past_key_names": "past_key_values.%d.key",
                    "past_value_names": "past_key_values.%d.value",
                },
                "outputs": {
                    "logits": "logits",
                    "present_key_names": "present.%d.key",
                    "present_value_names": "present.%d.value",
                },
                "num_attention_heads": HEADS,
                "num_hidden_layers": 1,
                "num_key_value_heads": HEADS,
            },
            "type": "phi3",
            "vocab_size": VOCABULARY,
        },
        "search": {"past_present_share_buffer": True},
    }


def _model(opset: int) -> Any:
    from onnx import TensorProto, helper

    half, ids, cache = TensorProto.FLOAT16, TensorProto.INT64, ["batch", HEADS, "past", HEAD]
    inputs = [
        helper.make_tensor_value_info("input_ids", ids, ["batch", "tokens"]),
        helper.make_tensor_value_info("attention_mask", ids, ["batch", "all_tokens"]),
        helper.make_tensor_value_info("position_ids", ids, ["batch", "tokens"]),
        helper.make_tensor_value_info("past_key_values.0.key", half, cache),
        helper.make_tensor_value_info("past_key_values.0.value", half, cache),
    ]
    outputs = [
        helper.make_tensor_value_info("logits", half, ["batch", "tokens", VOCABULARY]),
        helper.make_tensor_value_info("present.0.key", half, cache),
        helper.make_tensor_value_info("present.0.value", half, cache),
    ]
    graph = helper.make_graph(_nodes(), "decoder", inputs, outputs, _weights())
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(_MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _nodes() -> list[Any]:
    from onnx import TensorProto, helper

    def node(operator: str, inputs: list[str], outputs: list[str], *, domain: str = "", **attributes: Any) -> Any:
        return helper.make_node(operator, inputs, outputs, name=outputs[0], domain=domain, **attributes)

    return [
        node("Gather", ["embed", "input_ids"], ["embedded"]),
        node("SimplifiedLayerNormalization", ["embedded", "norm"], ["normed"], epsilon=1e-5, axis=-1),
        *(_quantised(node, f"{name}_proj", "normed", name) for name in ("q", "k", "v")),
        *(
            node("RotaryEmbedding", [name, "position_ids", "cos", "sin"], [f"{name}_turned"], domain=_MICROSOFT)
            for name in ("q", "k")
        ),
        node("ReduceSum", ["attention_mask", "last_axis"], ["lengths"], keepdims=0),
        node("Sub", ["lengths", "one"], ["lengths_less_one"]),
        node("Cast", ["lengths_less_one"], ["seqlens_k"], to=TensorProto.INT32),
        node("Shape", ["attention_mask"], ["mask_shape"]),
        node("Gather", ["mask_shape", "one_index"], ["total"]),
        node("Cast", ["total"], ["total_sequence_length"], to=TensorProto.INT32),
        node(
            "GroupQueryAttention",
            [
                "q_turned",
                "k_turned",
                "v",
                "past_key_values.0.key",
                "past_key_values.0.value",
                "seqlens_k",
                "total_sequence_length",
            ],
            ["attended", "present.0.key", "present.0.value"],
            domain=_MICROSOFT,
            num_heads=HEADS,
            kv_num_heads=HEADS,
            scale=HEAD**-0.5,
        ),
        _quantised(node, "lm_head", "attended", "logits", rows=VOCABULARY),
    ]


def _quantised(node: Callable[..., Any], weight: str, x: str, out: str, rows: int = HIDDEN) -> Any:
    return node(
        "MatMulNBits",
        [x, f"{weight}.weight", f"{weight}.scales"],
        [out],
        domain=_MICROSOFT,
        K=HIDDEN,
        N=rows,
        bits=4,
        block_size=BLOCK,
    )


def _weights() -> list[Any]:
    import numpy as np
    from onnx import numpy_helper

    arrays = {
        "embed": np.zeros((VOCABULARY, HIDDEN), np.float16),
        "norm": np.ones(HIDDEN, np.float16),
        "cos": np.ones((256, HEAD // 2), np.float16),
        "sin": np.zeros((256, HEAD // 2), np.float16),
        "last_axis": np.array([1]),
        "one": np.array([1]),
        "one_index": np.array(1),
    }
    for name, rows in (("q_proj", HIDDEN), ("k_proj", HIDDEN), ("v_proj", HIDDEN), ("lm_head", VOCABULARY)):
        arrays[f"{name}.weight"] = np.zeros((rows, HIDDEN // BLOCK, BLOCK // 2), np.uint8)
        arrays[f"{name}.scales"] = np.zeros((rows, HIDDEN // BLOCK), np.float16)
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]
