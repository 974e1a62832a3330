"""The drop-in for the NPU library: Hugging Face programs on aipc's models choose transformers' own tokens."""

from __future__ import annotations

import copy
import json
import pickle
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from dequantised import dequantised
from networks import EXACT, random_ids
from tiny_checkpoint import SHAPES, write_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, TextStreamer, pipeline

import aipc
import aipc.npu
from aipc import guide
from aipc.errors import ContextLengthError, DeviceError, UnsupportedModelError, UsageError
from aipc.npu import NPUModelForCausalLM, bars, float16, int4, int8
from aipc.npu.bars import Bars
from aipc.npu.compiler import CompilerConfig
from aipc.quant.recipe import Recipe
from aipc.store import store_root

pytestmark = pytest.mark.peers

QUERY = "<|system|>You are a helpful AI assistant.<|end|><|user|>Can you introduce yourself?<|end|><|assistant|>"
PADDING = 507
SHORT = {"MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "32"}


def loaded(model: str | Path, dtype: Any, **arguments: Any) -> Any:
    config = CompilerConfig(dtype=dtype)
    return NPUModelForCausalLM.from_pretrained(model, config=config, device="cpu", properties=EXACT, **arguments)


def generated(model: Any, prompts: list[list[int]], *, tokens: int = 24, **settings: Any) -> list[list[int]]:
    """The answers to prompts of several lengths, padded on the left as one batch."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[PADDING] * (longest - len(prompt)) + prompt for prompt in prompts])
    seen = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    lengths = {"max_new_tokens": tokens, "min_new_tokens": tokens, "pad_token_id": PADDING, "eos_token_id": None}
    torch.manual_seed(5)
    with torch.no_grad():
        whole = model.generate(ids, attention_mask=seen, **{"do_sample": False, **lengths, **settings})
    return whole[:, longest:].tolist()


SETTINGS = {
    "greedy": {},
    "repetition penalty": {"repetition_penalty": 1.3},
    "sampled": {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "top_k": 50},
    "no cache": {"use_cache": False},
    "beams": {"num_beams": 3},
    "several answers": {"do_sample": True, "num_return_sequences": 2, "top_k": 20},
}
PROMPTS = {"one prompt": [random_ids(60, seed=1)], "a batch": [random_ids(20, seed=3), random_ids(53, seed=4)]}


@pytest.fixture(scope="module", params=[int4, int8, torch.float16], ids=str)
def pair(
    request: pytest.FixtureRequest, tiny_checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any]:
    """aipc's model of the tiny checkpoint, and transformers' on the same weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIPC_HOME", str(tmp_path_factory.mktemp("home")))
        model = loaded(tiny_checkpoint_dir, request.param)
    recipe = CompilerConfig(dtype=request.param).precision.recipe
    return model, dequantised(tiny_checkpoint_dir, recipe)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("prompts", PROMPTS.values(), ids=PROMPTS)
def test_generate_gives_the_tokens_of_transformers(
    pair: tuple[Any, Any], prompts: list[list[int]], settings: dict[str, Any]
) -> None:
    ours, theirs = pair
    assert generated(ours, prompts, **settings) == generated(theirs, prompts, **settings)


def test_the_logits_are_those_of_transformers(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    ids = torch.tensor([random_ids(60, seed=7), random_ids(60, seed=8)])
    with torch.no_grad():
        expected = theirs(ids).logits
    assert (ours(ids).logits - expected).abs().max() <= 1e-4
    assert (ours(ids, logits_to_keep=3).logits - expected[:, -3:]).abs().max() <= 1e-4


def test_steps_by_hand_go_on_from_the_last_ones_cache_and_from_no_other(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    ids = torch.tensor([random_ids(30, seed=9)])
    expected = ours(ids).logits
    first = ours(ids[:, :20])
    second = ours(ids[:, 20:], past_key_values=first.past_key_values)
    assert (torch.cat([first.logits, second.logits], dim=1) - expected).abs().max() <= 1e-4
    with pytest.raises(UsageError, match="past_key_values"):
        ours(ids[:, 20:], past_key_values=first.past_key_values)


def test_generations_in_several_threads_wait_for_each_other(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    prompts = [[random_ids(12, seed=seed)] for seed in range(20, 24)]
    expected = [generated(ours, prompt) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as threads:
        assert list(threads.map(lambda prompt: generated(ours, prompt), prompts)) == expected


def test_an_empty_cache_of_transformers_is_none_and_a_filled_one_is_refused(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    prompt = [random_ids(12, seed=25)]
    assert generated(ours, prompt, past_key_values=transformers.DynamicCache()) == generated(theirs, prompt)
    filled = theirs(torch.tensor(prompt)).past_key_values
    with pytest.raises(UsageError, match="past_key_values"):
        ours(torch.tensor([random_ids(1)]), past_key_values=filled)


def test_rows_end_where_those_of_transformers_end(pair: tuple[Any, Any]) -> None:
    prompts = PROMPTS["a batch"]
    ours, theirs = pair
    whole = generated(theirs, prompts)
    ends = [whole[0][3], whole[1][9]]
    settings = {"eos_token_id": ends, "min_new_tokens": 0}
    assert generated(ours, prompts, **settings) == generated(theirs, prompts, **settings) != whole


def test_without_a_mask_every_token_counts_as_with_transformers(pair: tuple[Any, Any]) -> None:
    ids = torch.tensor(PROMPTS["one prompt"])
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": PADDING}
    answers = [model.generate(ids, **settings).tolist() for model in pair]
    assert answers[0] == answers[1]


def test_a_model_is_not_copied_and_not_pickled(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    for copying in (copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match="cannot be copied or pickled"):
            copying(ours)


def test_each_token_is_one_step_from_the_cache(pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair
    steps = []
    logits = ours.network.logits

    def counted(input_ids: Any, *arguments: Any, **keywords: Any) -> Any:
        steps.append(input_ids.shape)
        return logits(input_ids, *arguments, **keywords)

    monkeypatch.setattr(ours.network, "logits", counted)
    for settings, rows in (({}, 1), ({"num_beams": 3}, 3)):
        steps.clear()
        generated(ours, [random_ids(20, seed=16)], tokens=4, **settings)
        assert steps == [(rows, 20), (rows, 1), (rows, 1), (rows, 1)]
    steps.clear()
    generated(ours, [random_ids(20, seed=16)], tokens=2, use_cache=False)
    assert steps == [(1, 20), (1, 21)]


def test_a_second_turn_goes_on_from_the_first_ones_cache(pair: tuple[Any, Any]) -> None:
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": PADDING}
    answers = []
    for model in pair:
        first = model.generate(torch.tensor([random_ids(20)]), return_dict_in_generate=True, **settings)
        ids = torch.cat([first.sequences, torch.tensor([random_ids(6, seed=17)])], dim=1)
        answers.append(model.generate(ids, past_key_values=first.past_key_values, **settings).tolist())
    assert answers[0] == answers[1]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_generates_as_transformers_does_past_every_switch(shape: str, tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / shape, shape)
    ours = loaded(checkpoint, float16)
    theirs = dequantised(checkpoint, Recipe("fp16"), config_dir=Path(ours.name_or_path))
    prompt = [random_ids(40, seed=10)]  # LongRoPE's factors change after 64 tokens
    # Without its cache: with it, transformers leaves its own uncached tokens where LongRoPE's factors change.
    expected = generated(theirs, prompt, tokens=60, use_cache=False)
    assert generated(ours, prompt, tokens=60) == expected


@pytest.fixture(scope="module")
def phi() -> Any:
    return AutoModelForCausalLM.from_pretrained(guide.CHECKPOINT, dtype=torch.float32)


def test_the_npu_librarys_program_runs_unchanged_but_for_its_imports_and_the_device(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model_id = "guide"
    compiler_conf = CompilerConfig(dtype=int4)
    model = NPUModelForCausalLM.from_pretrained(
        model_id, use_cache=True, config=compiler_conf, attn_implementation="sdpa", device="cpu", properties=EXACT
    ).eval()
    tokenizer = AutoTokenizer.from_pretrained(model.name_or_path)  # a hub id's own, where model_id is one
    text_streamer = TextStreamer(tokenizer, skip_prompt=True)
    generation_args = {
        "max_new_tokens": 60,
        "return_full_text": False,
        "temperature": 0.3,
        "do_sample": False,
        "streamer": text_streamer,
    }
    pipe = pipeline("text-generation", model=model, tokenizer=tokenizer)
    assert "not supported" not in caplog.text
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (answer,) = pipe(QUERY, **generation_args)
    assert answer["generated_text"].strip() in capsys.readouterr().out
    theirs = pipeline("text-generation", model=dequantised(guide.CHECKPOINT, int4.recipe), tokenizer=tokenizer)
    (expected,) = theirs(QUERY, max_new_tokens=60, return_full_text=False, do_sample=False)
    assert answer == expected
    assert "Guide" in answer["generated_text"]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_pipeline_answers_several_conversations_as_with_transformers(phi: Any, batch_size: int) -> None:
    ours = loaded("guide", float16)
    tokenizer = AutoTokenizer.from_pretrained(ours.name_or_path, padding_side="left")
    questions = ["What is an NPU?", "Can you introduce yourself, please? I am new here."]
    chats = [[{"role": "user", "content": question}] for question in questions]
    settings = {"max_new_tokens": 30, "do_sample": False, "batch_size": batch_size}
    answers = [
        pipeline("text-generation", model=model, tokenizer=tokenizer)(chats, **settings) for model in (ours, phi)
    ]
    assert answers[0] == answers[1]


def test_a_checkpoint_is_converted_into_the_store_once(tiny_checkpoint_dir: Path) -> None:
    first = loaded(tiny_checkpoint_dir, int8)
    made = (Path(first.name_or_path) / "openvino_model.bin").stat()
    again = loaded(tiny_checkpoint_dir, int8)
    assert again.name_or_path == first.name_or_path
    assert (Path(again.name_or_path) / "openvino_model.bin").stat().st_mtime_ns == made.st_mtime_ns
    assert json.loads((Path(again.name_or_path) / "aipc.json").read_text(encoding="utf-8"))["recipe"]["symmetric"]


def test_a_conversion_shows_a_bar_and_a_load_shows_none(
    tiny_checkpoint_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded(tiny_checkpoint_dir, int8)
    shown = capsys.readouterr()
    assert "Quantising: 100%" in shown.err
    assert shown.out == ""
    loaded(tiny_checkpoint_dir, int8)
    assert "Quantising" not in capsys.readouterr().err


def test_a_converted_directory_is_taken_as_it_is_or_refused(tiny_model_dir: Path) -> None:
    model = NPUModelForCausalLM.from_pretrained(tiny_model_dir, device="cpu")
    assert isinstance(model, NPUModelForCausalLM)
    assert type(model).__name__ == "Phi3ForCausalLM"
    with pytest.raises(UsageError, match="converted already"):
        loaded(tiny_model_dir, int4)


def test_without_an_npu_nothing_runs_on_the_cpu_unasked() -> None:
    with pytest.raises(DeviceError, match="device='cpu'") as caught:
        NPUModelForCausalLM.from_pretrained("nobody/nothing", config=CompilerConfig(dtype=int4))  # not downloaded
    assert "rehearse=True" in str(caught.value)
    with pytest.raises(UsageError, match="rehearse"):
        NPUModelForCausalLM.from_pretrained("guide", device="cpu", rehearse=True)


def test_it_stays_on_its_device_and_does_not_train(tiny_model_dir: Path) -> None:
    model = NPUModelForCausalLM.from_pretrained(tiny_model_dir, device="cpu")
    assert model.to("npu").half().eval().to(torch.float16).to("cpu") is model
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    for move in (lambda: model.to("cuda"), model.cuda):
        with pytest.raises(DeviceError, match="cuda"):
            move()
    with pytest.raises(UsageError, match="training"):
        model.train()
    with pytest.raises(UsageError, match="training"):
        CompilerConfig(training=True)


def test_tokens_that_are_not_the_models_are_refused(tiny_model_dir: Path) -> None:
    model = NPUModelForCausalLM.from_pretrained(tiny_model_dir, device="cpu")
    with pytest.raises(UsageError, match="from 0 to 511, found 512"):
        model(torch.tensor([[5, 512]]))
    with pytest.raises(UsageError, match="attention_mask"):
        model(torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 3))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def test_a_programs_own_positions_are_refused_and_the_usual_ones_taken(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    ids = torch.tensor([random_ids(6)])
    expected = ours.generate(ids, max_new_tokens=4, do_sample=False)
    assert torch.equal(
        ours.generate(ids, position_ids=torch.arange(6)[None], max_new_tokens=4, do_sample=False), expected
    )
    with pytest.raises(UsageError, match="position_ids"):
        ours.generate(ids, position_ids=torch.arange(6)[None] + 3, max_new_tokens=4, do_sample=False)


@pytest.fixture
def rehearsed(tiny_checkpoint_dir: Path) -> Any:
    return loaded_rehearsed(tiny_checkpoint_dir)


def loaded_rehearsed(model: Path) -> Any:
    config = CompilerConfig(dtype=float16)
    return NPUModelForCausalLM.from_pretrained(model, config=config, rehearse=True, properties=SHORT)


def test_the_npu_compiles_a_model_once_says_so_and_gives_the_same_tokens(
    rehearsed: Any, tiny_checkpoint_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "for the NPU rehearsal on the CPU (prompt 64 + answer 64 tokens)"
    capsys.readouterr()
    again = loaded_rehearsed(tiny_checkpoint_dir)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"compiled before {words}\n")
    ids = torch.tensor([random_ids(60, seed=18)])
    assert torch.equal(again(ids, logits_to_keep=1).logits, rehearsed(ids, logits_to_keep=1).logits)
    assert generated(again, ids.tolist()) == generated(rehearsed, ids.tolist())
    (blob,) = (store_root() / "blobs").glob("*/model.blob")
    blob.write_bytes(b"damaged")
    loaded_rehearsed(tiny_checkpoint_dir)
    said = capsys.readouterr().err
    assert "compiled again: what was kept cannot be used (" in said
    assert f"Compiling {words}: 00:0" in said


def test_what_the_npu_does_not_take_is_refused_before_it_is_compiled(
    tiny_checkpoint_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asymmetric = aipc.convert(tiny_checkpoint_dir, tmp_path / "asym", weights="int4", group_size=64, symmetric=False)
    with pytest.raises(DeviceError, match="asym cannot run on the NPU: npu/symmetric"):
        NPUModelForCausalLM.from_pretrained(asymmetric.path, rehearse=True, properties=SHORT)
    NPUModelForCausalLM.from_pretrained(asymmetric.path, device="cpu")
    lengths = {"MAX_PROMPT_LEN": "16384"}
    with pytest.raises(UsageError, match="at most 256 tokens, the model's context, found 16384"):
        NPUModelForCausalLM.from_pretrained(tiny_checkpoint_dir, rehearse=True, properties=lengths)
    phi = AutoModelForCausalLM.from_pretrained(tiny_checkpoint_dir)
    with pytest.raises(UsageError, match="at most 256 tokens, the model's context, found 16384"):
        aipc.npu.compile(phi, CompilerConfig(dtype=float16), rehearse=True, properties=lengths)
    assert "ompiling" not in capsys.readouterr().err


def test_arguments_of_another_kind_are_refused_before_anything_is_made(tiny_checkpoint_dir: Path) -> None:
    for device in ("auto", "AUTO:NPU,CPU", "cuda", "cuda:0", "gpu.x", None):
        with pytest.raises(UsageError, match=r"device: expected one of OpenVINO's by its name: npu, cpu, gpu or gpu.1"):
            NPUModelForCausalLM.from_pretrained(tiny_checkpoint_dir, device=device)
    with pytest.raises(UsageError, match="texts, such as '512'"):
        NPUModelForCausalLM.from_pretrained(tiny_checkpoint_dir, rehearse=True, properties={"MAX_PROMPT_LEN": 512})
    phi = AutoModelForCausalLM.from_pretrained(tiny_checkpoint_dir)
    for properties in ([("MAX_PROMPT_LEN", "64")], "x"):
        with pytest.raises(UsageError, match="properties: expected a mapping"):
            aipc.npu.compile(phi, CompilerConfig(dtype=float16), rehearse=True, properties=properties)


def test_the_time_that_a_compilation_takes_goes_on_and_can_be_hidden(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "_TICK_S", 0.05)
    with Bars() as shown:
        shown("compiling for the NPU", 0, 0)
        time.sleep(1.2)
    assert "\rCompiling for the NPU: 00:01" in capsys.readouterr().err
    transformers.utils.logging.disable_progress_bar()
    try:
        with Bars() as hidden:
            hidden("compiling for the NPU", 0, 0)
            hidden.note("compiled before")
    finally:
        transformers.utils.logging.enable_progress_bar()
    assert capsys.readouterr().err == ""


def test_the_rehearsed_npu_is_near_the_cpu_and_generates(rehearsed: Any, tiny_checkpoint_dir: Path) -> None:
    assert rehearsed.network.device_name.startswith("NPU rehearsal on the CPU (")
    exact = loaded(tiny_checkpoint_dir, float16)
    ids = torch.tensor([random_ids(60, seed=11)])
    found, expected = rehearsed(ids, logits_to_keep=1).logits, exact(ids, logits_to_keep=1).logits
    assert found.shape == expected.shape == (1, 1, 512)
    assert relative_error(found, expected) < 0.03  # this CPU's half precision, of either kind
    assert len(generated(rehearsed, [random_ids(40, seed=12)], do_sample=True)[0]) == 24


def test_a_padded_prompt_on_the_npu_is_that_prompt(rehearsed: Any) -> None:
    prompt = random_ids(30, seed=13)
    expected = rehearsed(torch.tensor([prompt]), logits_to_keep=1).logits
    padded = torch.tensor([[PADDING] * 5 + prompt])
    found = rehearsed(padded, attention_mask=(padded.cumsum(-1) > 5 * PADDING).long(), logits_to_keep=1).logits
    assert relative_error(found, expected) < 0.03


def test_what_the_npu_does_not_do_is_refused_before_it_starts(rehearsed: Any) -> None:
    two = [random_ids(5), random_ids(5)]
    for settings in ({"num_beams": 2}, {"num_return_sequences": 2, "do_sample": True}):
        with pytest.raises(UsageError, match="one sequence at a time"):
            generated(rehearsed, two[:1], **settings)
    with pytest.raises(UsageError, match="one sequence at a time"):
        generated(rehearsed, two)
    with pytest.raises(ContextLengthError, match="64 tokens at most, found 65"):
        generated(rehearsed, [random_ids(65)], tokens=1)
    with pytest.raises(ContextLengthError, match=r"found 165\ntry: .*MAX_PROMPT_LEN': '65', .*'100'"):
        rehearsed.generate(torch.tensor([random_ids(65)]), max_new_tokens=100)
    with pytest.raises(ContextLengthError, match="128 tokens at most, found 129"):
        generated(rehearsed, [random_ids(60)], tokens=69)
    with pytest.raises(UsageError, match="logits_to_keep"):
        rehearsed(torch.tensor([random_ids(5)]))
    assert len(generated(rehearsed, [random_ids(60)], tokens=68)[0]) == 68


def test_an_answer_longer_than_the_npus_prompts_can_be_continued(rehearsed: Any) -> None:
    settings = {"do_sample": False, "eos_token_id": None, "return_dict_in_generate": True}
    first = rehearsed.generate(torch.tensor([random_ids(60)]), max_new_tokens=10, **settings)
    name = "cache" if "cache" in first and first.get("cache") is not None else "past_key_values"
    more = rehearsed.generate(first.sequences, max_new_tokens=10, **{name: first[name]}, **settings)
    assert torch.equal(
        more.sequences, rehearsed.generate(first.sequences[:, :60], max_new_tokens=20, **settings).sequences
    )


@pytest.mark.parametrize("dtype", [int4, float16], ids=str)
def test_a_model_in_memory_is_compiled(dtype: Any, tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(tiny_checkpoint_dir, dtype=torch.float16)
    model = aipc.npu.compile(theirs, CompilerConfig(dtype=dtype), device="cpu", properties=EXACT)
    expected = loaded(tiny_checkpoint_dir, dtype)
    ids = torch.tensor([random_ids(40, seed=14)])
    assert torch.equal(model(ids).logits, expected(ids).logits)
    assert generated(model, [ids[0].tolist()]) == generated(expected, [ids[0].tolist()])
    assert model.name_or_path == str(tiny_checkpoint_dir)
    assert type(model).__name__ == "Phi3ForCausalLM"


def test_a_tied_model_in_memory_is_compiled(phi: Any) -> None:
    model = aipc.npu.compile(phi, CompilerConfig(), device="cpu", properties=EXACT)
    ids = torch.tensor([random_ids(40, seed=15)])
    with torch.no_grad():
        assert (model(ids).logits - phi(ids).logits).abs().max() < 1e-3
    assert model.generation_config.eos_token_id == phi.generation_config.eos_token_id


def test_settings_that_transformers_does_not_write_are_compiled_and_kept(tiny_checkpoint_dir: Path) -> None:
    theirs = AutoModelForCausalLM.from_pretrained(tiny_checkpoint_dir)
    theirs.generation_config.temperature = 0.3  # and no sampling: save_pretrained refuses that
    model = aipc.npu.compile(theirs, CompilerConfig(dtype=int8), device="cpu")
    assert model.generation_config.temperature == theirs.generation_config.temperature == 0.3


def test_a_model_without_its_weights_is_not_compiled(tiny_checkpoint_dir: Path) -> None:
    config = transformers.AutoConfig.from_pretrained(tiny_checkpoint_dir)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UnsupportedModelError, match="meta"):
        aipc.npu.compile(empty, CompilerConfig(), device="cpu")


def test_arguments_for_pytorchs_loading_are_taken_and_the_old_dtype_counts(tiny_checkpoint_dir: Path) -> None:
    settings = {"torch_dtype": "auto", "low_cpu_mem_usage": True, "trust_remote_code": True, "device": "cpu"}
    model = NPUModelForCausalLM.from_pretrained(tiny_checkpoint_dir, dtype=int8, **settings)
    assert model.name_or_path == loaded(tiny_checkpoint_dir, int8).name_or_path
    with pytest.raises(UsageError, match="dtype: expected the config's, int4, found int8"):
        NPUModelForCausalLM.from_pretrained(tiny_checkpoint_dir, CompilerConfig(dtype=int4), dtype=int8, **settings)


def test_what_cannot_be_compiled_is_refused() -> None:
    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10)
    for model in (torch.nn.Linear(2, 2), transformers.GPT2LMHeadModel(config)):
        with pytest.raises(UnsupportedModelError, match="phi3"):
            aipc.npu.compile(model, CompilerConfig(), device="cpu")
    with pytest.raises(UsageError, match="CompilerConfig"):
        aipc.npu.compile(torch.nn.Linear(2, 2), torch.int8, device="cpu")  # type: ignore[arg-type]


def test_assisted_generation_is_refused_and_random_ids_stay_random(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    with pytest.raises(ValueError, match="stateful"):
        generated(ours, [random_ids(10)], assistant_model=theirs)
    torch.manual_seed(1)
    first = ours.generate(torch.tensor([random_ids(10)]), do_sample=True, max_new_tokens=8, eos_token_id=None)
    torch.manual_seed(2)
    second = ours.generate(torch.tensor([random_ids(10)]), do_sample=True, max_new_tokens=8, eos_token_id=None)
    assert not np.array_equal(first.numpy(), second.numpy())
