"""List, verify or remove the models in the store.

aipc models                list them
aipc models verify NAME    read every byte and compare it with the manifest (NAME may be a directory)
aipc models rm NAME        remove one
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aipc.cli.display import Display
from aipc.errors import UsageError
from aipc.progress import at_stage
from aipc.store import StoredModel, models, models_directory, remove, resolve, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "verify", "rm"), default="list")
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action == "list":
        _list(as_json=arguments.json)
        return 0
    if arguments.name is None:
        raise UsageError(f"aipc models {arguments.action}: NAME is missing", try_next="aipc models lists the names")
    if arguments.action == "verify":
        _verify(arguments.name, as_json=arguments.json)
    else:
        _remove(arguments.name, as_json=arguments.json)
    return 0


def _list(*, as_json: bool) -> None:
    found = models()
    if as_json:
        print(json.dumps({"store": str(models_directory()), "models": [_as_json(model) for model in found]}))
        return
    for model in found:
        made_from = model.manifest.origin.location if model.manifest else model.problem or ""
        print(f"{model.name:50} {model.size_bytes / 1e6:>9,.1f} MB  {model.state:10}  {made_from}")
    if not found:
        print(f'no models in {models_directory()}\ntry: aipc run -m CHECKPOINT "…"', file=sys.stderr)


def _as_json(model: StoredModel) -> dict[str, object]:
    manifest = model.manifest
    return {
        "name": model.name,
        "path": str(model.path),
        "state": model.state,
        "problem": model.problem,
        "size_bytes": model.size_bytes,
        "recipe": dict(manifest.recipe) if manifest else None,
        "source": manifest.origin.location if manifest else None,
        "created": manifest.created if manifest else None,
    }


def _verify(name: str, *, as_json: bool) -> None:
    path = resolve(name).path or Path(name)
    with Display(quiet=as_json) as display:
        done = verify(path, progress=at_stage(display, "verify"))
    if as_json:
        print(json.dumps({"path": str(path), "ok": True, "read_bytes": done.read_bytes}))
        return
    print(f"{name}: every one of {done.read_bytes:,} bytes is what the manifest records")
    for extra in done.unlisted:
        print(f"not in the manifest, ignored: {extra}", file=sys.stderr)


def _remove(name: str, *, as_json: bool) -> None:
    freed_bytes = remove(name)
    if as_json:
        print(json.dumps({"name": name, "freed_bytes": freed_bytes}))
    else:
        print(f"removed {name}, {freed_bytes / 1e6:,.1f} MB")
