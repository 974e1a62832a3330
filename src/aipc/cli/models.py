"""List, verify, check or remove the models in the store.

NAME is one that the list shows; `verify` and `check` take a directory too. `check` says from the files alone whether a
device will take the model, OpenVINO's or ONNX Runtime GenAI's, whoever made it: exit code 0 when it will, 1 when not.

examples:
  aipc models                                        list them
  aipc models verify phi-3-mini-int4-g128-sym        read every byte and compare it with the manifest
  aipc models check ./phi3-int4 --device npu         will it run there? which weight is in the way?
  aipc models rm phi-3-mini-int4-g128-sym            remove one
  aipc models rm ./phi3-int4                         remove what was compiled of it for the NPU, and no more
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aipc.check import DEVICES, Finding, check
from aipc.cli.display import Display
from aipc.devices.device import is_numbered, kind_of
from aipc.errors import IntegrityError, ModelNotFoundError, StoreBusyError, UsageError
from aipc.progress import at_stage
from aipc.quoting import quoted
from aipc.store import (
    Source,
    StoredModel,
    Verification,
    model_path,
    models,
    models_directory,
    remove,
    resolve,
    verify,
)
from aipc.store.blobs import blob_bytes, bytes_compiled_of, remove_blobs
from aipc.store.names import GUIDE, is_model_name

_SHOWN = 3  # places of a finding; --json has them all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "verify", "check", "rm"), default="list")
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--device", metavar="DEVICE", help=f"check: {', '.join(DEVICES)}")
    parser.add_argument("--json", action="store_true", help="one line of JSON on stdout")


def run(arguments: argparse.Namespace) -> int:
    if arguments.action != "check" and arguments.device is not None:
        raise UsageError(f"--device has no meaning for aipc models {arguments.action}", try_next="leave it out")
    if arguments.action == "list":
        _list(as_json=arguments.json)
        return 0
    if arguments.name is None:
        raise UsageError(f"aipc models {arguments.action}: NAME is missing", try_next="aipc models lists the names")
    arguments.name = _stored_guide() if arguments.name == GUIDE else arguments.name
    if arguments.action == "check":
        return _check(arguments.name, arguments.device, as_json=arguments.json)
    if arguments.action == "verify":
        _verify(arguments.name, as_json=arguments.json)
    else:
        _remove(arguments.name, as_json=arguments.json)
    return 0


def _stored_guide() -> str:
    """The one conversion of the embedded model in the store. Raises `ModelNotFoundError` for none and for several."""
    names = [model.name for model in models() if model.manifest and model.manifest.origin.location == GUIDE]
    if len(names) == 1:
        return names[0]
    if not names:
        what = f"the store has no conversion of {GUIDE}, the embedded model"
        raise ModelNotFoundError(what, try_next='aipc run "Hello" converts it')
    raise ModelNotFoundError(
        f"the store has several conversions of {GUIDE}, the embedded model",
        expected="the name of one",
        found=", ".join(names),
        try_next="aipc models lists the names",
    )


def _list(*, as_json: bool) -> None:
    compiled = blob_bytes()
    found = [(model, compiled.pop(model.path.resolve(), 0)) for model in models()]
    others = sorted(compiled.items())
    if as_json:
        listed = [_as_json(model, compiled_bytes) for model, compiled_bytes in found]
        elsewhere = [{"path": str(path), "compiled_bytes": size_bytes} for path, size_bytes in others]
        print(json.dumps({"store": str(models_directory()), "models": listed, "compiled_elsewhere": elsewhere}))
        return
    rows: list[tuple[str, int, str, str]]
    rows = [(model.name, model.size_bytes, model.state, _told_of(model, size_bytes)) for model, size_bytes in found]
    rows += [(str(path), size_bytes, "compiled", "of a model elsewhere") for path, size_bytes in others]
    names = max((len(name) for name, *_ in rows), default=0)
    for name, size_bytes, state, told in rows:
        print(f"{_printable(name):{names}}  {size_bytes / 1e6:>9,.1f} MB  {state:10}  {told}".rstrip())
    if not rows:
        print(f'no models in {models_directory()}\ntry: aipc run "Can you introduce yourself?"', file=sys.stderr)


def _told_of(model: StoredModel, compiled_bytes: int) -> str:
    told = model.manifest.origin.location if model.manifest else model.problem or ""
    return f"{told}; {compiled_bytes / 1e6:,.1f} MB more of it compiled" if compiled_bytes else told


def _as_json(model: StoredModel, compiled_bytes: int) -> dict[str, object]:
    manifest = model.manifest
    return {
        "name": model.name,
        "path": str(model.path),
        "state": model.state,
        "problem": model.problem,
        "size_bytes": model.size_bytes,
        "compiled_bytes": compiled_bytes,
        "recipe": dict(manifest.recipe) if manifest else None,
        "source": manifest.origin.location if manifest else None,
        "created": manifest.created if manifest else None,
    }


def _verify(name: str, *, as_json: bool) -> None:
    source = resolve(name)
    if source.path is None or source.kind not in ("converted", "stored"):
        raise ModelNotFoundError(
            f"{name} is not converted yet",
            expected="a converted directory, or a name in the store",
            try_next="aipc models lists the names",
        )
    with Display() as display:
        done = _verified(source, source.path, display)
    if as_json:
        print(json.dumps({"path": str(source.path), "ok": True, "read_bytes": done.read_bytes}))
        return
    print(f"{name}: every one of {done.read_bytes:,} bytes is what the manifest records")
    for extra in done.unlisted:
        print(f"not in the manifest, ignored: {extra}", file=sys.stderr)


def _verified(source: Source, path: Path, display: Display) -> Verification:
    try:
        return verify(path, progress=at_stage(display, "check"))
    except IntegrityError as error:
        remove_first = f"aipc models rm {source.name}, then " if source.kind == "stored" else ""
        raise IntegrityError(
            error.what,
            expected=error.expected,
            found=error.found,
            try_next=f"{remove_first}convert the model again",
        ) from error


def _check(name: str, device: str | None, *, as_json: bool) -> int:
    if device is None:
        raise UsageError(
            "aipc models check: --device is missing",
            expected=f"one of {', '.join(DEVICES)}",
            try_next=f"aipc models check {quoted(name)} --device {DEVICES[0]}",
        )
    kind = kind_of(device)
    if kind not in DEVICES or not is_numbered(device):
        raise UsageError(f"--device {device}", expected=f"one of {', '.join(DEVICES)}", found=repr(device))
    report = check(_directory_of(name), kind)
    if as_json:
        print(json.dumps(report.as_json()))
        return 0 if report.passes else 1
    print(f"{name} on {device}: {'passes' if report.passes else 'fails'}\n{_printable(report.summary)}")
    for finding in report.findings:
        print(_shown(finding))
    for remedy in dict.fromkeys(finding.remedy for finding in report.failures if finding.remedy):
        print(f"try: {remedy}")
    return 0 if report.passes else 1


def _directory_of(name: str) -> Path:
    """A directory as it was typed, or that of a stored model."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.is_file():
        raise ModelNotFoundError(
            f"{name} is a file", expected="a model's directory", try_next=f"give its directory, {quoted(path.parent)}"
        )
    stored = model_path(name, models_dir=models_directory()) if is_model_name(name) else path
    if not stored.is_dir():
        raise ModelNotFoundError(
            f"No model {name!r}",
            expected="a model's directory, or a name in the store",
            try_next="aipc models lists the names",
        )
    return stored


def _shown(finding: Finding) -> str:
    places = ", ".join(_printable(place) for place in finding.where[:_SHOWN])
    more = f" and {len(finding.where) - _SHOWN} more" if len(finding.where) > _SHOWN else ""
    mark = "FAIL" if finding.severity == "failure" else "note"
    found = _printable(finding.found)
    if finding.expected is not None:
        found = f"expected {_printable(finding.expected)}; found {found}"
    return f"{mark}  {finding.rule}  {places}{more}\n      {found}"


def _printable(text: str) -> str:
    """Names come out of a model's files, and a terminal obeys control characters."""
    return text if text.isprintable() else ascii(text)


def _remove(name: str, *, as_json: bool) -> None:
    freed_bytes, removed = _freed_bytes(name)
    if as_json:
        print(json.dumps({"name": name, "freed_bytes": freed_bytes}))
    else:
        print(f"removed {removed}, {freed_bytes / 1e6:,.1f} MB")


def _freed_bytes(name: str) -> tuple[int, str]:
    """What removing `name` freed, and what that was: a stored model, or what was compiled of one elsewhere."""
    try:
        return remove(name), name
    except (ModelNotFoundError, UsageError):
        if not bytes_compiled_of(Path(name)):
            if not Path(name).is_dir():
                raise
            raise _not_removable(Path(name)) from None
        freed_bytes = remove_blobs(Path(name))
        if left_bytes := bytes_compiled_of(Path(name)):
            raise StoreBusyError(
                f"{left_bytes / 1e6:,.1f} MB of what was compiled of {name} cannot be removed",
                try_next="again when no program uses it",
            ) from None
        return freed_bytes, f"what was compiled of {name}"


def _not_removable(path: Path) -> ModelNotFoundError:
    """A model's directory that is no name."""
    is_stored = path.absolute().parent == models_directory().absolute()
    what = "is given by its name" if is_stored else "is not in the store, nor is anything that was compiled of it"
    return ModelNotFoundError(f"{path} {what}", try_next=f"aipc models rm {path.name}" if is_stored else "aipc models")
