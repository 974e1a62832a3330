"""Answer one prompt: the text streams to stdout, progress and statistics go to stderr.

MODEL may be a converted directory, a checkpoint directory, a name from `aipc models`, or a Hugging Face id; a
checkpoint is converted into the store first. Without -m the small model answers that aipc ships, called guide. Text on
stdin is put behind the prompt. Ctrl-C stops.

examples:
  aipc run "Can you introduce yourself?"
  aipc run -m ./phi3-int4 "Can you introduce yourself?"
  aipc run -m ./Phi-3-mini-4k-instruct --weights int8 --temperature 0.7 "Tell me a story."
  aipc run -m ./phi3-int4 --device npu "Tell me a story."
  aipc run -m ./phi3-int4 --device npu --rehearse "Tell me a story."
  echo "long text" | aipc run -m ./phi3-int4 "Summarise:"
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

from aipc.answer import Answer
from aipc.chat import Chat, Message
from aipc.cli.display import Display
from aipc.cli.parsing import (
    add_model_arguments,
    add_sampling_arguments,
    chosen_recipe_of,
    sampling_of,
    wanted_place_of,
)
from aipc.cli.show import note_choice, note_statistics, show
from aipc.cli.streams import piped_text
from aipc.engines.openvino_lengths import RESPONSE
from aipc.errors import EmptyPromptError, UsageError
from aipc.measuring import remember
from aipc.model import Model, load_placed
from aipc.placing import placed
from aipc.prompt import Prompt, prompt_ids
from aipc.static_device import Need


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to answer")
    add_model_arguments(parser)
    add_sampling_arguments(parser)
    parser.add_argument("--system", metavar="TEXT", help="a system message")
    parser.add_argument("--raw", action="store_true", help="continue PROMPT as it is, without the chat template")
    parser.add_argument("--json", action="store_true", help="one line of JSON with text and statistics on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no statistics")


def run(arguments: argparse.Namespace) -> int:
    recipe, wanted, sampling = chosen_recipe_of(arguments), wanted_place_of(arguments), sampling_of(arguments)
    prompt = _prompt(arguments.prompt)
    with Display(quiet=arguments.quiet) as display:
        place = placed(arguments.model, recipe, wanted, progress=display)
        note_choice(place, display)
        need = Need(lambda chat: _prompt_ids(chat, prompt, arguments), arguments.max_tokens)
        with load_placed(place, progress=display, note=display.note, need=need) as model:
            display.end()
            if not (arguments.raw or model.chat.has_template):
                display.note(f"{model.name} has no chat template: PROMPT is continued as it is")
            answer = model.stream(_asked(model.chat, prompt, arguments), raw=arguments.raw, **sampling)
            show(answer, display, visible=not arguments.json)
            remember(model, answer, note=display.note)
            if arguments.json:
                print(json.dumps({"model": model.name, **_as_json(answer)}))
            else:
                note_statistics(answer, display, when_full=_when_full(model, place.wanted.properties))
    return 0


def _when_full(model: Model, properties: Mapping[str, str]) -> str | None:
    """What makes the context longer that an answer has filled; None where it is all that the model has there."""
    switch_tokens = model.ready.rope_switch_tokens or model.ready.context_tokens
    if model.capabilities.context_tokens >= min(model.ready.context_tokens, switch_tokens):
        return None
    return f"a larger {f'--ov-config {RESPONSE}' if RESPONSE in properties else '--max-tokens'} makes it longer"


def _prompt_ids(chat: Chat, prompt: str, arguments: argparse.Namespace) -> list[int]:
    return prompt_ids(chat, _asked(chat, prompt, arguments), raw=arguments.raw)


def _asked(chat: Chat, prompt: str, arguments: argparse.Namespace) -> Prompt:
    if arguments.system is None:
        return prompt
    if arguments.raw or not chat.has_template:
        raise UsageError("--system needs a chat template", expected="a model that has one, and no --raw")
    return [Message("system", arguments.system), Message("user", prompt)]


def _as_json(answer: Answer) -> dict[str, object]:
    return {
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        "token_ids": answer.token_ids,
        "statistics": answer.statistics().to_json(),
    }


def _prompt(words: list[str]) -> str:
    """The words, and what stdin holds when it is no terminal."""
    prompt = "\n".join(part for part in (" ".join(words), piped_text()) if part)
    if not prompt.strip():
        raise EmptyPromptError("the prompt is empty", try_next='aipc run "Can you introduce yourself?"')
    return prompt
