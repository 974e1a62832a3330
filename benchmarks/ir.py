"""What is inside an OpenVINO IR: the bytes of its constants by element type, and a plugin's view of it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path


def constant_bytes(xml: Path) -> dict[str, int] | None:
    """Return the bytes of all constants by element type, such as {"i4": 226492416}; None without a file."""
    if not xml.exists():
        return None
    total: Counter[str] = Counter()
    for layer in ElementTree.parse(xml).getroot().iterfind("./layers/layer[@type='Const']/data"):
        total[layer.attrib["element_type"]] += int(layer.attrib["size"])
    return dict(total.most_common())


def runtime_nodes(xml: Path, *, attention: str, device: str, properties: dict[str, str]) -> dict[str, int]:
    """Compile a model and count the plugin's nodes by type and precision, such as {"FullyConnected i4": 16}.

    These are the nodes after fusion: a model that lost a fusion has other kinds of nodes, or more of them.
    `attention` "PA" looks at the graph that openvino-genai makes of the model for its paged attention, "SDPA"
    at the one it has.
    """
    import openvino
    from openvino._offline_transformations import paged_attention_transformation

    core = openvino.Core()
    model = core.read_model(xml)
    if attention == "PA":
        paged_attention_transformation(model)
    nodes: Counter[str] = Counter()
    for node in core.compile_model(model, device, properties).get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str)
        if kind != "Const":
            nodes[f"{kind} {info['runtimePrecision'].astype(str)}"] += 1
    return dict(sorted(nodes.items()))
