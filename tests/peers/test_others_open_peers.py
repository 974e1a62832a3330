"""optimum-intel and transformers open what aipc writes; and next to optimum's own export it is the same network."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import openvino as ov
import pytest
import torch
from networks import EXACT, OpenVinoModel, greedy, random_ids, reference
from openvino._offline_transformations import paged_attention_transformation
from optimum.intel import OVModelForCausalLM
from recipes import RECIPES, converted
from tiny_checkpoint import SHAPES, write_checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from aipc.chat import Chat, Message
from aipc.quant.recipe import Recipe

pytestmark = pytest.mark.peers
# As program 3 of the Phi cookbook's page types it, on the CPU; exact arithmetic on top.
OV_CONFIG = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""}
TOKENS = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": False, "eos_token_id": None, "pad_token_id": 507}
FUSED = ["FullyConnected", "MatMul", "RMS", "RoPE", "ScaledDotProductAttention", "PagedAttention"]


def opened(model_dir: Path) -> Any:
    return OVModelForCausalLM.from_pretrained(
        model_dir,
        device="CPU",
        ov_config=OV_CONFIG | EXACT,
        config=AutoConfig.from_pretrained(model_dir, trust_remote_code=True),
        trust_remote_code=True,
    )


def generated(model: Any, prompts: list[list[int]], **settings: Any) -> list[list[int]]:
    """The answers to prompts of several lengths, padded on the left as one batch."""
    longest = max(map(len, prompts))
    ids = torch.tensor([[507] * (longest - len(prompt)) + prompt for prompt in prompts])
    seen = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.no_grad():
        whole = model.generate(ids, attention_mask=seen, **TOKENS, **settings)
    return whole[:, longest:].tolist()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_optimum_generates_the_tokens_of_numpy_for_every_recipe(
    tiny_checkpoint_dir: Path, tmp_path: Path, recipe: Recipe
) -> None:
    model = opened(converted(tiny_checkpoint_dir, tmp_path / "out", recipe))
    prompt = random_ids(60, seed=1)  # past the window of 47
    assert generated(model, [prompt]) == [greedy(reference(tiny_checkpoint_dir, recipe), prompt, 24)]


@pytest.fixture(scope="module", params=list(SHAPES))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("open") / request.param, request.param)


@pytest.fixture(scope="module")
def out(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted(checkpoint, tmp_path_factory.mktemp("out") / "fp16", Recipe("fp16"))


def test_optimum_opens_every_shape_by_its_directory_alone(checkpoint: Path, out: Path) -> None:
    prompt = random_ids(20, seed=2)
    model = OVModelForCausalLM.from_pretrained(out, ov_config=EXACT)
    assert generated(model, [prompt]) == [greedy(reference(checkpoint, Recipe("fp16")), prompt, 24)]


def test_optimum_generates_a_left_padded_batch_and_beams_as_transformers_does(checkpoint: Path, out: Path) -> None:
    model = opened(out)
    # The checkpoint is FP16, so `out` has the same weights. Its config is newer: transformers 5.5 fails on "su".
    config = AutoConfig.from_pretrained(out)
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, config=config, dtype=torch.float32)
    prompts = [random_ids(20, seed=3), random_ids(13, seed=4)]
    for settings in ({}, {"num_beams": 2}):
        assert generated(model, prompts, **settings) == generated(theirs, prompts, **settings)


def test_the_tokenizer_opens_and_speaks_as_aipc_does(tiny_model_dir: Path) -> None:
    theirs, chat = AutoTokenizer.from_pretrained(tiny_model_dir, trust_remote_code=True), Chat.load(tiny_model_dir)
    for text in ("Hi there", "Grüße, 你好\n<|end|>", ""):
        assert theirs(text)["input_ids"] == chat.tokenizer.encode(text)
    history = [{"role": "user", "content": "Hi, who are you?"}]
    ids = theirs.apply_chat_template(history, add_generation_prompt=True, return_dict=False)
    assert ids == chat.prompt_ids([Message("user", "Hi, who are you?")])


def test_remote_code_is_not_looked_for(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    for name, value in (
        ("config.json", {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}),
        ("tokenizer_config.json", {"AutoTokenizer": ["code.Tokenizer", None]}),
    ):
        values = json.loads((checkpoint / name).read_text(encoding="utf-8")) | {"auto_map": value}
        (checkpoint / name).write_text(json.dumps(values), encoding="utf-8")
    out = converted(checkpoint, tmp_path / "out", Recipe("int8"))
    assert len(generated(opened(out), [random_ids(5)])[0]) == 24
    assert AutoTokenizer.from_pretrained(out, trust_remote_code=True)("Hi")["input_ids"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_every_weight_is_stored_in_the_type_that_the_recipe_says(
    tiny_checkpoint_dir: Path, tmp_path: Path, recipe: Recipe
) -> None:
    model = ov.Core().read_model(converted(tiny_checkpoint_dir, tmp_path / "out", recipe) / "openvino_model.xml")
    types = {
        node.get_friendly_name(): node.get_output_element_type(0).get_type_name()
        for node in model.get_ops()
        if node.get_type_name() == "Constant" and node.get_friendly_name().endswith("weight")
    }
    linear = Counter(kind for name, kind in types.items() if "_proj" in name)
    ends = {types["model.embed_tokens.weight"], types["lm_head.weight"]}
    of_recipe = {"fp16": "f16"}.get(recipe.weights, f"{'u' if _is_asymmetric(recipe) else 'i'}{recipe.weights[3:]}")
    if recipe.ratio < 1:
        assert set(linear) == {of_recipe, "u8"}
    else:
        assert set(linear) == {of_recipe}
    assert ends == {"u8" if recipe.weights == "int4" and not recipe.all_layers else of_recipe}


def _is_asymmetric(recipe: Recipe) -> bool:
    return recipe.symmetric is False or (recipe.symmetric is None and recipe.weights == "int8")


@pytest.fixture(scope="module")
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: None
) -> tuple[Path, Path]:
    """One checkpoint as aipc and as optimum's exporter write it, both with FP16 weights."""
    directory = tmp_path_factory.mktemp("exported")
    checkpoint = write_checkpoint(directory / "checkpoint", request.param)
    OVModelForCausalLM.from_pretrained(checkpoint, export=True, load_in_8bit=False, compile=False).save_pretrained(
        directory / "theirs"
    )
    return converted(checkpoint, directory / "ours", Recipe("fp16")), directory / "theirs"


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


EXPORTED = pytest.mark.parametrize("exported", ["phi-3-mini-4k", "phi-3-medium", "phi-4-mini"], indirect=True)


@EXPORTED
def test_the_logits_are_those_of_optimums_export(exported: tuple[Path, Path]) -> None:
    ours, theirs = (OpenVinoModel(directory) for directory in exported)
    ids = random_ids(60, seed=5)
    assert np.abs(ours.logits(ids) - theirs.logits(ids)).max() <= 1e-4
    for token in random_ids(8, seed=6):
        assert np.abs(ours.logits([token]) - theirs.logits([token])).max() <= 1e-4


@EXPORTED
@pytest.mark.parametrize("paged", [False, True])
def test_the_cpu_plugin_fuses_it_as_optimums_export_and_adds_no_operation(
    exported: tuple[Path, Path], paged: bool
) -> None:
    ours, theirs = (runtime_kinds(directory, paged=paged) for directory in exported)
    assert {kind: ours[kind] for kind in FUSED} == {kind: theirs[kind] for kind in FUSED}
    assert ours["RMS"] == 5 and ours["RoPE"] == 4
    assert ours["PagedAttention" if paged else "ScaledDotProductAttention"] == 2
    assert {kind: count for kind, count in ours.items() if count > theirs[kind]} == {}


def runtime_kinds(model_dir: Path, *, paged: bool) -> Counter[str]:
    """How many operations of each kind the CPU plugin runs."""
    core = ov.Core()
    model = core.read_model(model_dir / "openvino_model.xml")
    if paged:
        paged_attention_transformation(model)
    compiled = core.compile_model(model, "CPU", EXACT)
    return Counter(node.get_rt_info()["layerType"] for node in compiled.get_runtime_model().get_ops())


def test_optimum_finds_nothing_of_its_own_missing(tiny_model_dir: Path, recwarn: pytest.WarningsRecorder) -> None:
    model = opened(tiny_model_dir)
    assert model.stateful
    assert model.config.model_type == "phi3"
    layers = ElementTree.parse(tiny_model_dir / "openvino_model.xml").getroot().findall("layers/layer")
    assert len([layer for layer in layers if layer.get("type") == "ReadValue"]) == 4
