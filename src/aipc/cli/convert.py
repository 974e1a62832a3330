"""Quantise a Hugging Face checkpoint into an OpenVINO directory, or one of ONNX Runtime GenAI.

SOURCE is a directory with config.json and *.safetensors, a Hugging Face id, or guide, the model that aipc ships. The
result in OUT opens in aipc, openvino_genai.LLMPipeline and optimum.intel.OVModelForCausalLM, or with --to onnx in
onnxruntime_genai.Model. It is whole or absent, whatever happens meanwhile.

examples:
  aipc convert ./Phi-3-mini-4k-instruct ./phi3-int4
  aipc convert microsoft/Phi-3-mini-4k-instruct ./phi3-int8 --weights int8
  aipc convert ./Phi-3-mini-4k-instruct ./phi3-dml --to onnx --device directml
  aipc convert ./Phi-3-mini-4k-instruct --dry-run
"""

from __future__ import annotations

import argparse
import json
import sys

from aipc.cli.display import Display
from aipc.cli.parsing import add_recipe_arguments, recipe_of
from aipc.conversion import Conversion, convert, plan_conversion
from aipc.errors import UsageError
from aipc.plan import Plan
from aipc.quoting import quoted
from aipc.targets import FORMATS, ONNX_DEVICES, target_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="checkpoint directory, Hugging Face id, or guide")
    parser.add_argument("destination", metavar="OUT", nargs="?", help="directory to make")
    group = parser.add_argument_group("format")
    group.add_argument("--to", default="openvino", metavar="FORMAT", help=f"{' or '.join(FORMATS)} (openvino)")
    group.add_argument(
        "--device", metavar="DEVICE", help=f"onnx: the device it is for: {', '.join(ONNX_DEVICES)} (cpu)"
    )
    add_recipe_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing; OUT is not needed")
    parser.add_argument("--force", action="store_true", help="replace the converted model at OUT")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no summary")


def run(arguments: argparse.Namespace) -> int:
    recipe = recipe_of(arguments, arguments.source)
    with Display(quiet=arguments.quiet) as display:
        if arguments.dry_run:
            target = target_of(arguments.to, arguments.device)
            plan = plan_conversion(arguments.source, recipe, target, progress=display)
            display.end()
            print(json.dumps(plan.as_json()) if arguments.json else _plan_table(plan))
            return 0
        if arguments.destination is None:
            raise UsageError("OUT is missing", try_next=f"aipc convert {quoted(arguments.source)} OUT")
        conversion = convert(
            arguments.source,
            arguments.destination,
            to=arguments.to,
            device=arguments.device,
            weights=arguments.weights,
            group_size=arguments.group_size,
            ratio=arguments.ratio,
            symmetric=arguments.symmetric,
            all_layers=arguments.all_layers,
            force=arguments.force,
            progress=display,
        )
        display.end()
        print(json.dumps(_as_json(conversion)) if arguments.json else conversion.path)
        if not arguments.json:
            display.note(_summary(conversion, arguments.device))
    return 0


def _as_json(conversion: Conversion) -> dict[str, object]:
    plan = conversion.plan
    return {
        "path": str(conversion.path),
        "seconds": round(conversion.seconds, 3),
        "size_bytes": conversion.manifest.size_bytes,
        "bits_per_weight": round(plan.bits_per_weight, 3),
        "recipe": plan.recipe_json,
    }


def _summary(conversion: Conversion, device: str | None) -> str:
    plan = conversion.plan
    return (
        f"{plan.label}: {plan.parameters / 1e6:,.1f} M weights at {plan.bits_per_weight:.2f} bits, "
        f"{conversion.manifest.size_bytes / 1e6:,.1f} MB, {conversion.seconds:.1f} s\n"
        f"next: {_next(quoted(conversion.path), device)}"
    )


def _next(model: str, device: str | None) -> str:
    if device == "directml" and sys.platform != "win32":  # made here for another PC
        return f"aipc models check {model} --device directml"
    option = "" if device in (None, "cpu") else f" --device {device}"
    return f'aipc run -m {model}{option} "Can you introduce yourself?"'


def _plan_table(plan: Plan) -> str:
    names = max(len(planned.use.name) for planned in plan.weights)
    rows = [
        f"{planned.use.name:{names}}  {'×'.join(map(str, planned.use.shape)):>13}  {planned.scheme.label:14} "
        f"{planned.bits_per_weight:6.3f} bits  {planned.size_bytes:>13,} B"
        for planned in plan.weights
    ]
    return "\n".join(
        [
            *rows,
            f"\nrecipe            {plan.label}",
            f"weights           {plan.parameters:,}",
            f"bits per weight   {plan.bits_per_weight:.3f}",
            f"output            {plan.weights_bytes:,} bytes of weights",
            f"read per token    {plan.weight_bytes_per_token:,} bytes of weights",
            f"peak memory       at most {plan.peak_memory_bytes / 1e6:,.0f} MB while converting",
        ]
    )
