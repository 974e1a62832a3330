"""A directory of ONNX Runtime GenAI, checked before anything of it is handed on.

GenAI would load a library, write a profile, or open a file anywhere, where genai_config.json or the model says so. So
only what is known here goes through, and every file is one that lies in the directory.

Source: ONNX Runtime GenAI's configuration reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aipc.config import ConfigFile
from aipc.engines.onnx_file import External, OnnxFile, read_onnx
from aipc.errors import AipcError, EngineError
from aipc.graph.onnx.genai_names import DEVICE_OF_PROVIDER
from aipc.store import validate_file_name
from aipc.store.manifest import source_of
from aipc.store.model_files import GENAI_CONFIG

FLOAT16 = 10  # ONNX's number of the type

# Of the session's options, those that neither load nor write a file.
_SESSION_OPTIONS = {
    "enable_cpu_mem_arena",
    "enable_mem_pattern",
    "graph_optimization_level",
    "inter_op_num_threads",
    "intra_op_num_threads",
    "log_id",
    "log_severity_level",
    "provider_options",
    "use_env_allocators",
}
_PROVIDER_OPTIONS = {
    "cpu": set[str](),
    "directml": {"enable_graph_capture"},
    "cuda": {"enable_cuda_graph", "enable_skip_layer_norm_strict_mode"},
}
# Networks of several files: pictures, speech, encoders.
_OTHER_PARTS = ("embedding", "encoder", "joiner", "speech", "vision")


@dataclass(frozen=True)
class OnnxDirectory:
    """What running it needs. `device` is the one it was made for, `options` its provider's, as texts.

    `kv_element_bytes` is the size of an element of the KV cache.
    """

    path: Path
    device: str
    options: Mapping[str, str]
    model_type: str
    context_tokens: int
    vocabulary_tokens: int
    kv_element_bytes: int


def read_directory(path: Path) -> OnnxDirectory:
    """Raises `EngineError` naming the file, and the key or the tensor, that is missing, wrong or not to be trusted."""
    file = path / GENAI_CONFIG
    if not file.is_file():
        raise EngineError(
            f"{path} holds no model of ONNX Runtime GenAI",
            expected=GENAI_CONFIG,
            try_next=f"aipc convert {source_of(path)} OUT --to onnx",
        )
    try:
        model = _section(ConfigFile.load(file), "model")
        decoder = _section(model, "decoder")
        device, options = _provider(decoder)
        for name in _OTHER_PARTS:
            model.require(not model.has(name), name, "nothing: aipc runs models of text alone")
        decoder.require(not decoder.has("pipeline"), "pipeline", "nothing: aipc runs models of one file")
        name = validate_file_name(decoder.text("filename"), where=str(file), error=EngineError)
        network = read_onnx(path / name)
        _check_external(path, network.external)
        return OnnxDirectory(
            path=path,
            device=device,
            options=options,
            model_type=model.text("type"),
            context_tokens=model.count("context_length"),
            vocabulary_tokens=model.count("vocab_size"),
            kv_element_bytes=_kv_element_bytes(network),
        )
    except EngineError:
        raise
    except AipcError as error:
        raise EngineError(
            error.what, expected=error.expected, found=error.found, try_next="convert the model again"
        ) from error


def _section(config: ConfigFile, key: str) -> ConfigFile:
    section = config.section(key)
    config.require(section is not None, key, "an object")
    return section or config


def _provider(decoder: ConfigFile) -> tuple[str, Mapping[str, str]]:
    """The device that the directory was made for, and the options of its provider."""
    session = decoder.section("session_options")
    if session is None:
        return "cpu", {}
    for key in session.values:
        session.require(key in _SESSION_OPTIONS, key, f"one of {', '.join(sorted(_SESSION_OPTIONS))}")
    entries = session.values.get("provider_options") or []
    is_list = isinstance(entries, list) and all(isinstance(entry, dict) and len(entry) == 1 for entry in entries)
    session.require(is_list and len(entries) <= 1, "provider_options", "a list of at most one provider")
    return _provider_of(session, entries)


def _provider_of(session: ConfigFile, entries: Sequence[Mapping[str, Any]]) -> tuple[str, Mapping[str, str]]:
    if not entries:
        return "cpu", {}
    ((name, options),) = entries[0].items()
    device = DEVICE_OF_PROVIDER.get(name.lower())
    providers = f"one of {', '.join(DEVICE_OF_PROVIDER)}"
    session.require(device is not None, "provider_options", providers)
    known = _PROVIDER_OPTIONS[device or "cpu"]
    is_known = isinstance(options, dict) and options.keys() <= known
    session.require(is_known, "provider_options", f"no option of {name} but {', '.join(sorted(known)) or 'none'}")
    return device or "cpu", {key: str(value) for key, value in options.items()}


def _check_external(path: Path, external: Sequence[External]) -> None:
    """Every tensor's values lie in a file of this directory, and the file reaches as far as they do."""
    sizes: dict[str, int] = {}
    for one in external:
        if one.location not in sizes:
            sizes[one.location] = _data_size(path, one)
        if one.offset + (one.size_bytes or 0) > sizes[one.location]:
            raise EngineError(
                f"{path / one.location} is too short",
                expected=f"{one.offset + (one.size_bytes or 0)} bytes, where tensor {one.tensor} ends",
                found=f"{sizes[one.location]} bytes",
                try_next="convert the model again",
            )


def _data_size(path: Path, one: External) -> int:
    name = validate_file_name(one.location, where=f"{path}: tensor {one.tensor}", error=EngineError)
    try:
        return (path / name).stat().st_size
    except OSError as error:
        raise EngineError(
            f"{path / one.location} cannot be read: {error.strerror}", try_next="convert the model again"
        ) from error


def _kv_element_bytes(network: OnnxFile) -> int:
    kinds = {kind for name, kind in network.inputs.items() if name.startswith("past_key_values")}
    return 2 if kinds == {FLOAT16} else 4
