# ruff: noqa: E402
"""The guide's network against transformers and aipc, and its training on a few documents."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.peers

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[2]))

from aipc import guide
from aipc.chat import Chat, Message
from aipc.floats import Rows
from aipc.quant.int4 import Int4
from aipc.quant.recipe import Recipe
from guide.copying import look_back
from guide.corpus import Corpus
from guide.evaluate import answers, numpy_model
from guide.export import write_checkpoint
from guide.held_out import Question
from guide.network import Network, rounded_to_int4
from guide.shape import Shape
from guide.tokenizer import write_tokenizer
from guide.train import Plan, Run, start, train

TINY = Shape(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2)


@pytest.fixture(scope="module")
def checkpoint_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untrained guide."""
    directory = tmp_path_factory.mktemp("guide")
    texts = [m.content for document in islice(Corpus(1), 2500) for m in document.messages]
    write_tokenizer(directory / "tokenizer", texts)
    torch.manual_seed(0)
    network = Network(TINY)
    for parameter in network.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 1)
    return write_checkpoint(network.half().float(), directory / "tokenizer", directory / "checkpoint")


def ids() -> list[int]:
    return np.random.default_rng(0).integers(3, 4000, 300).tolist()


def test_transformers_and_numpy_compute_what_the_training_computes(checkpoint_dir: Path) -> None:
    network = Network(TINY)
    state = transformers.AutoModelForCausalLM.from_pretrained(checkpoint_dir, dtype=torch.float32)
    network.load_state_dict({name: value for name, value in state.state_dict().items() if name != "lm_head.weight"})
    with torch.no_grad():
        ours = network(torch.tensor([ids()]))[0].numpy()
        theirs = state(torch.tensor([ids()])).logits[0].numpy()
    assert np.abs(ours - theirs).max() < 1e-4
    assert np.abs(ours - numpy_model(checkpoint_dir, Recipe("fp16")).logits(ids())).max() < 1e-4


def test_transformers_loads_its_tokenizer_with_the_same_ids(checkpoint_dir: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint_dir)
    messages = [{"role": "user", "content": "What is an NPU? 🙂"}]
    found = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True, return_dict=False)
    assert found == Chat.load(checkpoint_dir).prompt_ids([Message("user", "What is an NPU? 🙂")])


@pytest.mark.parametrize("prompt", ["Can you introduce yourself?", "What is an NPU?", "你是谁？", "Send me an emoji"])
def test_the_embedded_model_says_what_transformers_says(prompt: str) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(guide.CHECKPOINT, dtype=torch.float32)
    chat = Chat.load(guide.CHECKPOINT)
    ids = chat.prompt_ids([Message("user", prompt)])
    settings = {"max_new_tokens": 40, "min_new_tokens": 40, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        expected = model.generate(torch.tensor([ids]), **settings)[0, len(ids) :].tolist()
    reference, found = numpy_model(guide.CHECKPOINT, Recipe("fp16")), list(ids)
    while len(found) < len(ids) + 40:
        new = found[-1:] if len(found) > len(ids) else ids
        found.append(int(reference.logits(new)[-1].argmax()))
    assert found[len(ids) :] == expected


def test_the_rounding_of_training_is_that_of_the_recipe() -> None:
    weight = torch.randn(8, 256, generator=torch.Generator().manual_seed(0)).half().float()
    rows = Rows.of(weight.numpy())
    scheme = Int4(128)
    expected = scheme.dequantize(scheme.quantize(rows)).reshape(8, 256)
    assert np.abs(rounded_to_int4(weight).numpy() - expected).max() < 1e-6


def test_gradients_go_through_the_rounding_unchanged() -> None:
    weight = torch.randn(2, 128, requires_grad=True)
    (rounded_to_int4(weight) * 3).sum().backward()
    assert torch.equal(weight.grad, torch.full_like(weight, 3))


def _run(out: Path) -> Run:
    out.mkdir()
    run = start(Plan(documents=2500, epochs=0.05, copying_steps=1), out, torch.device("cpu"))
    torch.manual_seed(0)
    return Run(run.plan, out, Network(TINY), run.encoded, run.device)


def test_a_stopped_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    whole, stopped = _run(tmp_path / "whole"), _run(tmp_path / "stopped")
    assert train(whole)
    assert not train(stopped, stop_after_s=0.0)
    again = _run_again(stopped)
    again.resume()
    assert train(again)
    assert again.losses == pytest.approx(whole.losses, abs=1e-4)
    assert whole.step == whole.steps > 2


def _run_again(run: Run) -> Run:
    torch.manual_seed(1)
    return Run(run.plan, run.out, Network(TINY), run.encoded, run.device)


def test_an_untrained_model_is_scored_as_knowing_nothing(checkpoint_dir: Path) -> None:
    question = Question("aipc", "What is aipc?", ("Phi-3",), ())
    (answered,) = answers(checkpoint_dir, [question], Recipe("int8"))
    assert not answered.right


def test_before_any_training_attention_looks_back_for_what_followed() -> None:
    """Random tokens said twice: what follows is likelier the second time, by what one layer brings the next."""
    torch.manual_seed(0)
    said = torch.randint(3, 4000, (8, 40))
    twice = torch.cat([said, said], dim=1)
    losses = []
    for prepared in (False, True):
        network = Network(Shape())
        if prepared:
            look_back(network)
        with torch.no_grad():
            logits = network(twice)[:, 40:-1]
        losses.append(float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), twice[:, 41:].flatten())))
    assert losses[0] > 8.2  # log 4096 is 8.3
    assert losses[1] < 7.6
