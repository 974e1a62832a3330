"""What a person means by MODEL: a converted model, a checkpoint, a stored name or a hub id."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from aipc import guide
from aipc.errors import ConfigError, IntegrityError, ModelNotFoundError, StoreError, WeightError
from aipc.quoting import quoted
from aipc.store.library import models
from aipc.store.manifest import MANIFEST, Origin, read_manifest
from aipc.store.model_files import GENAI_CONFIG, OPENVINO_BIN, OPENVINO_XML
from aipc.store.names import GUIDE, is_model_name, model_path
from aipc.store.root import models_directory

_HUB_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"
_HUB_ID = re.compile(rf"({_HUB_PART}/{_HUB_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")
_HUB_URL = re.compile(rf"https?://[^/]+/({_HUB_PART}/{_HUB_PART})(?:/.*)?")
_SNAPSHOT = re.compile(r"models--[^/\\]+?--([^/\\]+)")
# What a converted directory is known by, and what it lacks when it is not whole; genai_config.json names the rest.
CONVERTED_FILES = ((OPENVINO_XML, OPENVINO_BIN), (GENAI_CONFIG, GENAI_CONFIG))
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl"}
_EXAMPLE = "microsoft/Phi-3-mini-4k-instruct"
_PIECES, _PIECE_BYTES = 128, 4096  # a file of up to 512 KiB is read whole


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    `converted` (a directory) and `stored` (in the store) can be loaded from `path`; a `checkpoint` at
    `path` must be converted first, and so must the `embedded` one; a `hub` model, `name` being its id, must
    be downloaded and converted (`path` is None). `revision` is what was asked of the hub, or the commit that
    a checkpoint in the hub's cache is of.
    """

    kind: Literal["converted", "stored", "checkpoint", "embedded", "hub"]
    name: str
    path: Path | None = None
    revision: str | None = None

    @property
    def is_to_be_converted(self) -> bool:
        return self.kind not in ("converted", "stored")


def resolve(model: str | Path | None, root: Path | None = None) -> Source:
    """Decide what `model` is; None is the embedded model. Looks at the disk only, never at the network.

    In this order: the text `guide`, a directory, a stored model's name, a hub id with an optional
    `@revision`. A directory called guide is reached as `./guide` or as a `Path`. Raises `ModelNotFoundError`
    saying what was tried; for a directory that is no model `ModelNotFoundError`, `ConfigError`,
    `WeightError` or `IntegrityError` saying what is missing in it; `StoreError` for a directory that cannot
    be read.
    """
    if is_guide(model):
        return _embedded()
    typed = str(model)
    found = _directory(typed) or _stored(typed, root) or _hub(typed)
    if found is None:
        raise _not_found(typed, root)
    return found


def is_guide(model: str | Path | None) -> bool:
    """Whether `model` means the embedded one. A `Path` is a path, whatever its name is."""
    return model is None or model == GUIDE


def usual_weights(model: str | Path | None) -> str:
    """The weight format that `model` is converted to when none is asked for."""
    return guide.WEIGHTS if is_guide(model) else "int4"


def origin_of(source: Source, checkpoint_dir: Path | None = None) -> Origin:
    """Return what the manifest records of a checkpoint or hub source.

    For a hub source, `checkpoint_dir` is where it was downloaded to, once it was. Raises `StoreError` when
    the checkpoint cannot be read.
    """
    directory = source.path or checkpoint_dir
    config_sha256 = None if directory is None else _config_sha256(directory)
    if source.kind == "hub":
        return Origin(source.name.rsplit("/", 1)[-1], source.name, source.revision, config_sha256)
    if directory is None:
        raise StoreError(f"{source.name} has no directory", expected="a checkpoint's source", found=source.kind)
    if source.kind == "embedded":  # wherever it is installed, and whenever it was
        return Origin(source.name, source.name, None, config_sha256, _content_fingerprint(directory))
    return Origin(source.name, str(directory), source.revision, config_sha256, _fingerprint(directory))


def _embedded() -> Source:
    if not (guide.CHECKPOINT / "model.safetensors").is_file():
        raise ModelNotFoundError(
            "The embedded model is missing from this installation of aipc",
            expected=guide.CHECKPOINT / "model.safetensors",
            try_next=f"pip install --force-reinstall aipc, or give another model: -m {_EXAMPLE}",
        )
    return Source("embedded", GUIDE, guide.CHECKPOINT)


def _directory(model: str) -> Source | None:
    # os.path answers for any text, where pathlib raises for an unknown ~user or a name too long.
    path = Path(os.path.abspath(os.path.expanduser(model)))  # noqa: PTH100, PTH111
    if not model or not os.path.exists(path):  # noqa: PTH110
        return None
    if not path.is_dir():
        raise ModelNotFoundError(
            f"{model} is a file", expected="a model's directory", try_next=f"give its directory, {quoted(path.parent)}"
        )
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", try_next="change its permissions") from error
    for graph, data in CONVERTED_FILES:
        if graph in names:
            return _converted(path, names, graph, data)
    if "config.json" in names and _has_weights(names):
        name, revision = _checkpoint_name(path)
        return Source("checkpoint", name, path, revision)
    raise _no_model(path, names)


def _converted(path: Path, names: set[str], graph: str, data: str) -> Source:
    if data not in names:
        raise _not_whole(path, data, f"{data} and {graph}")
    return Source("converted", path.name, path)


def _not_whole(path: Path, missing: str, expected: str) -> IntegrityError:
    return IntegrityError(
        f"{path} is not a whole model",
        expected=expected,
        found=f"no {missing}",
        try_next="convert the model again",
    )


def _has_weights(names: set[str]) -> bool:
    return any(name.endswith(".safetensors") for name in names)


def _checkpoint_name(path: Path) -> tuple[str, str | None]:
    """The directory's name; in the hub's cache, where that is a commit, the repository's name and the
    commit."""
    repository = _SNAPSHOT.fullmatch(path.parent.parent.name)
    if path.parent.name == "snapshots" and repository is not None:
        return repository.group(1), path.name
    return path.name, None


def _no_model(path: Path, names: set[str]) -> ModelNotFoundError | ConfigError | WeightError | IntegrityError:
    if "model.onnx" in names:
        return _not_whole(path, GENAI_CONFIG, f"{GENAI_CONFIG} and model.onnx")
    if names & {MANIFEST, OPENVINO_BIN}:
        return _not_whole(path, OPENVINO_XML, f"{OPENVINO_BIN} and {OPENVINO_XML}")
    pickles = sorted(name for name in names if Path(name).suffix in _PICKLES)
    if pickles and not _has_weights(names):
        return WeightError(
            f"{path} has its weights in {pickles[0]}, a format that can run code when it is opened",
            expected="*.safetensors",
            found=", ".join(pickles[:3]),
            try_next="get the model's safetensors version",
        )
    if _has_weights(names):
        return ConfigError(
            f"{path} has weights, but no config.json that describes them",
            try_next="copy config.json from where the weights came from",
        )
    shown = sorted(name for name in names if not name.startswith("."))
    found = ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")
    return ModelNotFoundError(
        f"{path} is no model",
        expected=f"{OPENVINO_XML} or {GENAI_CONFIG} (a converted model), "
        "or config.json and *.safetensors (a checkpoint)",
        found=found or "an empty directory",
        try_next="give the directory that holds these files",
    )


def _stored(model: str, root: Path | None) -> Source | None:
    if not is_model_name(model):
        return None
    path = model_path(model, models_dir=models_directory(root))
    try:
        if not path.is_dir():
            return None
        read_manifest(path)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", try_next="change its permissions") from error
    except IntegrityError as error:
        raise IntegrityError(
            error.what,
            expected=error.expected,
            found=error.found,
            try_next=f"aipc models rm {model}, then convert the model again",
        ) from error
    return Source("stored", model, path)


def _hub(model: str) -> Source | None:
    match = _HUB_ID.fullmatch(model)
    if match is None or ".." in model or "--" in match.group(1):
        return None
    return Source("hub", match.group(1), revision=match.group(2))


def _not_found(model: str, root: Path | None) -> ModelNotFoundError:
    link = _HUB_URL.fullmatch(model)
    near = _near(model, [GUIDE, *(stored.name for stored in models(root))])
    if link is not None:
        advice = f"-m {link.group(1)}"
    elif near:
        advice = f"-m {near[0]}" + (f" (or {', '.join(near[1:])})" if near[1:] else "")
    else:
        advice = f"aipc models lists the stored models; a hub id looks like {_EXAMPLE}"
    return ModelNotFoundError(
        f"No model {_shown(model)}",
        expected="a directory, a stored model's name or a hub id ORG/NAME",
        found=f"no such directory, no such name in {models_directory(root)}, and not the form of a hub id",
        try_next=advice,
    )


def _shown(model: str) -> str:
    shown = model if model.isprintable() and model else ascii(model)
    return shown if len(shown) <= 200 else f"{shown[:199]}…"


def _near(model: str, names: list[str]) -> list[str]:
    wanted = model.casefold()
    beginning = [name for name in names if wanted and name.casefold().startswith(wanted)]
    alike = difflib.get_close_matches(wanted, names, n=3, cutoff=0.6)
    return list(dict.fromkeys([*beginning, *alike]))[:3]


def _config_sha256(directory: Path) -> str:
    try:
        return hashlib.sha256((directory / "config.json").read_bytes()).hexdigest()
    except OSError as error:
        raise StoreError(
            f"{directory / 'config.json'} cannot be read: {error.strerror}",
            try_next="check the disk and its permissions",
        ) from error


def _fingerprint(directory: Path) -> str:
    """A hash that changes with the weights, without reading them: names, sizes and times of change."""
    lines = [
        f"{entry.name}\0{status.st_size}\0{status.st_mtime_ns}"
        for entry in _fingerprinted(directory)
        if (status := entry.stat())
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _content_fingerprint(directory: Path) -> str:
    """A hash of names, sizes and contents: of a large file, of pieces that a training leaves none of unchanged.

    Takes a millisecond, where hashing 12 MB whole takes ten times that on a PC without SHA instructions.
    """
    digest = hashlib.sha256()
    for entry in _fingerprinted(directory):
        with entry.open("rb") as file:
            size_bytes = entry.stat().st_size
            digest.update(f"{entry.name}\0{size_bytes}\0".encode())
            for offset in range(0, size_bytes, max(_PIECE_BYTES, size_bytes // _PIECES)):
                file.seek(offset)
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()


def _fingerprinted(directory: Path) -> list[Path]:
    suffixes = {".safetensors", ".json", ".jinja", ".model"}
    return [entry for entry in sorted(directory.iterdir()) if entry.suffix in suffixes]
