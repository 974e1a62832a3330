"""The tokenizer and detokenizer as OpenVINO models, so that other OpenVINO programs generate from text.

`openvino_tokenizers` turns tokenizer.json into those models. It asks for the transformers package, though it takes
a tokenizer object's attributes from it and no computation: here a small object stands in for it. It also makes
several Python objects of each entry of a vocabulary: it is shown one of three tokens, and the real one is put in its
place.
"""

from __future__ import annotations

import builtins
import importlib.util
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from aipc.errors import CheckpointError
from aipc.openvino_import import import_openvino
from aipc.tokenizer.bpe_vocabulary import BpeVocabulary
from aipc.tokenizer.byte_level import byte_level_bytes
from aipc.tokenizer.config import TokenizerConfig
from aipc.tokenizer.tokenizer_json import check_tokenizer

# What transformers puts where tokenizer.json has none: nothing is added.
NO_POST_PROCESSOR = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
NO_LENGTH_LIMIT = 2**31 - 1
SMALLEST_CACHE = 20_000  # openvino_tokenizers' own floor, and its share of the vocabulary below
CACHED_SHARE = 0.2

Array = npt.NDArray[Any]


def write_openvino_tokenizer(model_dir: Path, out_dir: Path) -> None:
    """Write openvino_tokenizer.xml/.bin and openvino_detokenizer.xml/.bin for `model_dir`'s tokenizer.json.

    They are what `openvino_tokenizers.convert_tokenizer` makes of the same files with transformers, padding on
    the left. Raises `CheckpointError` when tokenizer.json is missing, malformed, of no use to aipc itself, or of a
    kind that OpenVINO cannot express.
    """
    document, vocabulary = check_tokenizer(model_dir)
    if vocabulary:  # from which the converter, which sees placeholders, would take the size
        capacity = max(int(len(vocabulary.tokens) * CACHED_SHARE), SMALLEST_CACHE)
        document["model"].setdefault("cache_capacity", capacity)
    stand_in = _StandIn(document, vocabulary, TokenizerConfig.read(model_dir))
    openvino = import_openvino()
    try:
        tokenizer, detokenizer = _convert(stand_in)
        if vocabulary:
            _set_vocabulary(tokenizer, detokenizer, vocabulary, stand_in)
    except OSError:
        raise
    except Exception as error:  # whatever a parser of others stumbles over
        path = model_dir / "tokenizer.json"
        raise CheckpointError(
            f"{path} cannot be turned into an OpenVINO tokenizer: {error!r:.300}",
            try_next="a checkpoint with the tokenizer of its family, unchanged",
        ) from error
    openvino.save_model(tokenizer, str(out_dir / "openvino_tokenizer.xml"))
    openvino.save_model(detokenizer, str(out_dir / "openvino_detokenizer.xml"))


class _StandIn:
    """What hf_parser reads of a transformers tokenizer. Its fields keep transformers' names."""

    is_fast = True
    model_input_names = ("input_ids", "attention_mask")
    padding_side = "left"  # a batch of prompts is padded where the answer does not follow
    truncation_side = "left"
    clean_up_tokenization_spaces = False

    def __init__(self, document: dict[str, Any], vocabulary: BpeVocabulary | None, config: TokenizerConfig) -> None:
        self.added_tokens_decoder = {token["id"]: SimpleNamespace(**token) for token in document["added_tokens"]}
        self._ids = _token_ids(document, vocabulary, config)
        self.model_max_length = config.max_tokens or NO_LENGTH_LIMIT
        self.chat_template = config.chat_template
        for name in ("bos_token", "eos_token", "pad_token"):
            token = config.special_tokens.get(name)
            setattr(self, name, token)
            setattr(self, f"{name}_id", self._ids.get(token or ""))
        post_processor = document.get("post_processor") or NO_POST_PROCESSOR
        self.document = document | {"padding": None, "truncation": None, "post_processor": post_processor}

    def get_vocab(self) -> Mapping[str, int]:
        return self._ids

    def save_pretrained(self, directory: str) -> None:
        Path(directory, "tokenizer.json").write_text(json.dumps(self.document), encoding="utf-8")


def _token_ids(
    document: Mapping[str, Any], vocabulary: BpeVocabulary | None, config: TokenizerConfig
) -> dict[str, int]:
    """The ids that may be asked for: of added and special tokens, and those a post-processor adds."""
    ids: dict[str, int] = {}
    if vocabulary:
        wanted = {token.encode("utf-8") for token in config.special_tokens.values()}
        ids |= {token.decode("utf-8"): index for index, token in enumerate(vocabulary.tokens) if token in wanted}
    elif isinstance(document["model"].get("vocab"), dict):
        ids |= document["model"]["vocab"]
    return ids | {token["content"]: token["id"] for token in document["added_tokens"]}


def _convert(stand_in: _StandIn) -> tuple[Any, Any]:
    """`convert_tokenizer`'s steps, without its check that transformers was imported."""
    from openvino_tokenizers import utils

    parameters = utils.TokenzierConversionParams(with_detokenizer=True)
    models = _load_parser().convert_fast_tokenizer(stand_in, parameters)
    for model in models:
        utils.update_rt_info_with_params(model, stand_in, parameters)
        utils.update_rt_info_with_environment(model)
        utils.update_rt_info_with_processor_template(model, stand_in)
    tokenizer, detokenizer = models
    return (
        utils.change_outputs_type(tokenizer, parameters.tokenizer_output_type),
        utils.change_inputs_type(detokenizer, parameters.detokenizer_input_type),
    )


def _load_parser() -> ModuleType:
    """A private copy of openvino_tokenizers.hf_parser that finds the stand-in where it imports transformers.

    Its imports go through a function of ours, so `sys.modules` is never touched: another thread, or a later
    import of the real transformers, notices nothing.
    """
    spec = importlib.util.find_spec("openvino_tokenizers.hf_parser")
    if spec is None or spec.loader is None:
        raise CheckpointError("openvino_tokenizers has no hf_parser", try_next="pip install --force-reinstall aipc")
    transformers = SimpleNamespace(
        PreTrainedTokenizerBase=_StandIn,
        PreTrainedTokenizerFast=_StandIn,
        import_protobuf=None,
        # It asks for >= 5.7 only, from where on BPE text is never "cleaned up", that is changed.
        require_version=lambda requirement: None,
    )

    def import_module(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        if level == 0 and name.partition(".")[0] == "transformers":
            return transformers
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    module = importlib.util.module_from_spec(spec)
    module.__dict__["__builtins__"] = vars(builtins) | {"__import__": import_module}
    spec.loader.exec_module(module)
    return module


def _set_vocabulary(tokenizer: Any, detokenizer: Any, vocabulary: BpeVocabulary, stand_in: _StandIn) -> None:
    """Put the real vocabulary and merges where the placeholders' constants are."""
    added = {index: token.content.encode("utf-8") for index, token in stand_in.added_tokens_decoder.items()}
    encoded = decoded = vocabulary.tokens
    if _is_byte_level(stand_in.document.get("pre_tokenizer")):
        spelled = [byte_level_bytes(token.decode("utf-8")) for token in vocabulary.tokens]
        encoded = [token or b"" for token in spelled]
        decoded = [
            token if bytes_ is None else bytes_ for token, bytes_ in zip(vocabulary.tokens, spelled, strict=True)
        ]
        contents = {index: token.content for index, token in stand_in.added_tokens_decoder.items()}
        added = {index: byte_level_bytes(content) or added[index] for index, content in contents.items()}
    merges = [[encoded[index] for index in side] for side in (vocabulary.left, vocabulary.right)]
    # Inputs 5 to 13: begins, ends and characters of the vocabulary, the left and the right sides of the merges.
    _replace_constants(_only(tokenizer, "BPETokenizer"), 5, (_with_added(encoded, added), *merges))
    _replace_constants(_only(detokenizer, "VocabDecoder"), 1, (_with_added(decoded, added),))


def _is_byte_level(pre_tokenizer: Mapping[str, Any] | None) -> bool:
    if not pre_tokenizer:
        return False
    steps = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    return any(step.get("type") == "ByteLevel" for step in steps)


def _with_added(tokens: Sequence[bytes], added: Mapping[int, bytes]) -> list[bytes]:
    size = max(len(tokens), max(added, default=-1) + 1)
    tokens = [*tokens, *[b""] * (size - len(tokens))]
    return [added.get(index, token) for index, token in enumerate(tokens)]


def _only(model: Any, type_name: str) -> Any:
    (operation,) = (op for op in model.get_ops() if op.get_type_name() == type_name)
    return operation


def _replace_constants(operation: Any, first_input: int, tensors: Sequence[Sequence[bytes]]) -> None:
    from openvino import op

    arrays = (array for strings in tensors for array in _packed_strings(strings))
    for index, values in enumerate(arrays, start=first_input):
        operation.input(index).replace_source_output(op.Constant(values).output(0))


def _packed_strings(strings: Iterable[bytes]) -> tuple[Array, Array, Array]:
    """As OpenVINO keeps a tensor of strings: begins, ends int32 (strings,) and characters uint8 (bytes,)."""
    parts = list(strings)
    ends = np.cumsum(np.fromiter(map(len, parts), np.int32, len(parts)), dtype=np.int32)
    begins = np.concatenate((np.zeros(1, np.int32), ends[:-1])) if len(ends) else ends
    return begins, ends, np.frombuffer(b"".join(parts), dtype=np.uint8)
