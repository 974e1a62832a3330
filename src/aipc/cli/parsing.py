"""Command-line arguments that several verbs share, spelled as the arguments of the Python API."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from aipc.engines import Sampling
from aipc.engines.openvino_rehearsal import with_rehearsal
from aipc.engines.request import check_sampling
from aipc.errors import UsageError
from aipc.quant.recipe import WEIGHT_FORMATS, Recipe
from aipc.store import usual_weights
from aipc.targets import FORMATS

if TYPE_CHECKING:
    from aipc.placing import Wanted


def add_recipe_arguments(parser: argparse.ArgumentParser) -> None:
    """--weights and what belongs to it, spelled as optimum-cli spells them."""
    group = parser.add_argument_group("quantisation")
    group.add_argument(
        "--weights",
        "--weight-format",
        choices=WEIGHT_FORMATS,
        metavar="FORMAT",
        help=f"{', '.join(WEIGHT_FORMATS)} (int4; the embedded model: int8)",
    )
    group.add_argument(
        "--group-size", type=int, metavar="N", help="columns that share a scale: 32, 64, 128, or -1 for all (int4: 128)"
    )
    group.add_argument(
        "--ratio", type=float, default=1.0, metavar="R", help="int4: share of the weights in INT4, the rest INT8 (1.0)"
    )
    symmetry = group.add_mutually_exclusive_group()
    symmetry.add_argument(
        "--sym", dest="symmetric", action="store_true", default=None, help="symmetric codes (int4's default)"
    )
    symmetry.add_argument(
        "--asym", dest="symmetric", action="store_false", help="codes with zero points (int8's default)"
    )
    group.add_argument("--all-layers", action="store_true", help="int4: the embedding and the head too")


def recipe_of(arguments: argparse.Namespace, model: str | None) -> Recipe:
    """The recipe that the arguments describe for `model`. Raises `RecipeError` when they contradict each other."""
    weights = arguments.weights or usual_weights(model)
    return Recipe(weights, arguments.group_size, arguments.ratio, arguments.symmetric, arguments.all_layers)


def chosen_recipe_of(arguments: argparse.Namespace) -> Recipe | None:
    """The recipe for `-m`, None where no argument names one. Raises `RecipeError`."""
    from aipc.model import chosen_recipe

    return chosen_recipe(
        arguments.model,
        arguments.weights,
        arguments.group_size,
        arguments.ratio,
        arguments.symmetric,
        arguments.all_layers,
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """-m, --device, --engine and the recipe for a checkpoint that must be converted first."""
    parser.add_argument(
        "-m",
        "--model",
        metavar="MODEL",
        help="a converted directory, a checkpoint directory, a name from `aipc models`, or a Hugging Face id "
        "(guide, the model that aipc ships)",
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="cpu, gpu, gpu.1, npu; of onnx: directml, directml.1, cuda; auto: the fastest that this PC has measured, "
        "else by a rule, and says why (without it: cpu, or what MODEL was made for)",
    )
    parser.add_argument(
        "--require-device",
        metavar="DEVICE",
        help="fail rather than run on another one; gpu is any GPU. Without --device it is the device",
    )
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="with --device npu: the NPU's pipeline on the CPU, for a PC without an NPU",
    )
    parser.add_argument(
        "--engine", metavar="ENGINE", help=f"{' or '.join(FORMATS)} (what MODEL was converted for, or has the device)"
    )
    parser.add_argument(
        "--ov-config",
        dest="properties",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an OpenVINO property; may be repeated",
    )
    add_recipe_arguments(parser)


def add_sampling_arguments(parser: argparse.ArgumentParser) -> None:
    """How the answer is generated; the names are those of `Model.stream`."""
    group = parser.add_argument_group("generation")
    group.add_argument(
        "--max-tokens", type=int, metavar="N", help="at most N tokens (what the context holds, up to 1024)"
    )
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (0)")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="smallest set with this probability (1)")
    group.add_argument("--top-k", type=int, default=0, metavar="K", help="only the K likeliest tokens (0: all)")
    group.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 repeats less (1)")
    group.add_argument("--seed", type=int, metavar="S", help="the same seed samples the same text")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before TEXT; may be repeated")


def sampling_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments of `Model.stream`.

    Raises `UsageError` for one that no model takes; asked before a load, it saves the time of one.
    """
    from aipc.prompt import checked_stops

    checked_stops(arguments.stop)
    check_sampling(
        Sampling(
            max_tokens=1 if arguments.max_tokens is None else arguments.max_tokens,
            temperature=arguments.temperature,
            top_p=arguments.top_p,
            top_k=arguments.top_k,
            repetition_penalty=arguments.repetition_penalty,
            seed=arguments.seed,
        )
    )
    return {
        "max_tokens": arguments.max_tokens,
        "temperature": arguments.temperature,
        "top_p": arguments.top_p,
        "top_k": arguments.top_k,
        "repetition_penalty": arguments.repetition_penalty,
        "seed": arguments.seed,
        "stop": arguments.stop,
    }


def wanted_place_of(arguments: argparse.Namespace) -> Wanted:
    """--device and what belongs to it. Raises as `aipc.placing.wanted_place`."""
    from aipc.placing import wanted_place

    return wanted_place(
        arguments.device,
        engine=arguments.engine,
        require_device=arguments.require_device,
        properties=properties_of(arguments),
    )


def properties_of(arguments: argparse.Namespace) -> dict[str, str]:
    """`--ov-config` as a dictionary, with what `--rehearse` adds.

    Raises `UsageError` for one without `=`, and for a rehearsal of another device than the NPU.
    """
    pairs = [pair.partition("=") for pair in arguments.properties]
    for key, equals, _ in pairs:
        if not (key and equals):
            raise UsageError(f"--ov-config {key}", expected="KEY=VALUE", found=key)
    return with_rehearsal({key: value for key, _, value in pairs}, arguments.device, rehearse=arguments.rehearse)
