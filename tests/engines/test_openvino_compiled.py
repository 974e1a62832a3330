"""Models compiled for the NPU, rehearsed on the CPU: compiled once, kept whole, and compiled again when they must."""

from __future__ import annotations

import _thread
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rehearsed import BEFORE, KEPT, SHAPE, STAGE, the_blob

from aipc.engines import LoadOptions, Sampling, openvino_kept
from aipc.engines import openvino as engine
from aipc.engines.openvino_device import lost_in_blob
from aipc.engines.openvino_rehearsal import REHEARSAL
from aipc.errors import DiskSpaceError, StoreError
from aipc.openvino_import import import_genai, import_openvino
from aipc.store import blobs, store_root

PROMPT = list(range(5, 45))


@dataclass
class Loaded:
    """What a load showed, and the tokens that the model then generates."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)


def load(model_dir: Path, *, keeps_compiled: bool = True, **properties: str) -> Loaded:
    loaded = Loaded()
    options = LoadOptions(
        context_tokens=128,
        properties={**REHEARSAL, **KEPT, **SHAPE, **properties},
        keeps_compiled=keeps_compiled,
        progress=lambda stage, *_: loaded.stages.append(stage),
        note=loaded.notes.append,
    )
    with engine.load(model_dir, "npu", options) as session:
        loaded.tokens = [step.token_id for step in session.stream(PROMPT, Sampling(max_tokens=10))]
    return loaded


def test_the_second_load_compiles_nothing_and_says_the_same(tiny_model_dir: Path) -> None:
    plain = load(tiny_model_dir, keeps_compiled=False)
    assert not (store_root() / "blobs").exists()
    first, second = load(tiny_model_dir), load(tiny_model_dir)
    assert (first.stages, first.notes) == (plain.stages, plain.notes) == ([STAGE], [])
    assert (second.stages, second.notes) == ([], [BEFORE])
    assert first.tokens == second.tokens == plain.tokens


def test_a_blob_that_would_compute_otherwise_is_not_kept_and_the_reason_said(tiny_model_dir: Path) -> None:
    """The CPU's properties are lost on the way through a blob that openvino-genai loads."""
    for _ in range(2):
        loaded = load(tiny_model_dir, DYNAMIC_QUANTIZATION_GROUP_SIZE="64")
        assert loaded.stages == [STAGE]
        assert loaded.notes == [
            "what this rehearsal compiles is not kept: loaded again, it would run on the CPU with"
            " DYNAMIC_QUANTIZATION_GROUP_SIZE 32, not 64"
        ]
    assert not (store_root() / "blobs").exists()


CHANGED = ("INFERENCE_PRECISION_HINT", "DYNAMIC_QUANTIZATION_GROUP_SIZE")  # by EXECUTION_MODE_HINT


@dataclass
class CoreWithPrecision:
    """OpenVINO's `Core` on a PC whose CPU's own precision is `default`; more accuracy is none below the model's."""

    default: Any
    told: dict[str, str] = field(default_factory=dict)

    def set_property(self, device: str, properties: dict[str, str]) -> None:
        assert device == "CPU"
        self.told.update(properties)

    def get_property(self, device: str, name: str) -> Any:
        if name == "SUPPORTED_PROPERTIES":
            return {**dict.fromkeys(CHANGED, "RW"), "EXECUTION_MODE_HINT": "RW", "FULL_DEVICE_NAME": "RO"}
        is_accurate = self.told.get("EXECUTION_MODE_HINT") == "ACCURACY"
        if name == "DYNAMIC_QUANTIZATION_GROUP_SIZE":
            return self.told.get(name, "0" if is_accurate else "32")
        assert name == "INFERENCE_PRECISION_HINT"
        return import_openvino().Type.dynamic if is_accurate else self.default


@pytest.mark.parametrize(("default", "is_lost"), [("bf16", True), ("f16", True), ("f32", False), ("dynamic", False)])
def test_full_precision_is_lost_only_where_the_cpu_has_another_of_its_own(default: str, is_lost: bool) -> None:
    """Real values of OpenVINO 2026.4 on a Xeon with AMX; those of a CPU without BF16 are as its documentation says."""
    own = getattr(import_openvino().Type, default)
    lost = lost_in_blob(CoreWithPrecision(own), CoreWithPrecision(own), {**REHEARSAL, **SHAPE})
    words = f"loaded again, it would run on the CPU with INFERENCE_PRECISION_HINT {default}, not f32"
    assert lost == (words if is_lost else None)
    assert lost_in_blob(CoreWithPrecision(own), CoreWithPrecision(own), {**REHEARSAL, **KEPT}) is None
    assert lost_in_blob(CoreWithPrecision(own), CoreWithPrecision(own), SHAPE) is None  # the NPU's own affair
    by_hand = {"NPUW_DEVICES": "CPU", "EXECUTION_MODE_HINT": "ACCURACY"}  # and not the rehearsal's group size
    lost = lost_in_blob(CoreWithPrecision(own), CoreWithPrecision(own), by_hand)
    assert lost == "loaded again, it would run on the CPU with DYNAMIC_QUANTIZATION_GROUP_SIZE 32, not 0"


def test_a_rehearsal_computes_the_same_however_often_it_is_loaded(tiny_model_dir: Path) -> None:
    """With this PC's own CPU: kept where its precision is FP32, compiled again elsewhere."""
    first, second = (load(tiny_model_dir, EXECUTION_MODE_HINT="ACCURACY") for _ in range(2))
    assert first.tokens == second.tokens
    is_lost = lost_in_blob(import_openvino().Core(), import_openvino().Core(), REHEARSAL) is not None
    assert second.stages == ([STAGE] if is_lost else [])


def test_a_good_blob_that_makes_room_is_told(tiny_model_dir: Path) -> None:
    for tokens in (64, 128, 192, 256):
        assert load(tiny_model_dir, MIN_RESPONSE_LEN=str(tokens)).notes == []
    assert load(tiny_model_dir, MAX_PROMPT_LEN="128").notes == [
        "no longer kept, as 4 of a model are: prompt 64 + answer 64 tokens"
    ]


def test_another_shape_is_compiled_beside_the_first(tiny_model_dir: Path) -> None:
    load(tiny_model_dir)
    assert load(tiny_model_dir, MAX_PROMPT_LEN="128").notes == []
    assert load(tiny_model_dir).notes == [BEFORE]
    assert load(tiny_model_dir, MAX_PROMPT_LEN="60").notes == [BEFORE]  # the plugin rounds it to the same


@pytest.mark.parametrize(
    ("property_name", "part"), [("NPU_DRIVER_VERSION", "driver"), ("NPU_COMPILER_VERSION", "compiler")]
)
def test_a_new_driver_or_compiler_compiles_again_and_says_why(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch, property_name: str, part: str
) -> None:
    load(tiny_model_dir)
    monkeypatch.setattr(openvino_kept, "_said", lambda _, name: "1.2" if name == property_name else "n/a")
    again = load(tiny_model_dir)
    assert again.notes == [f"compiled again: the {part} changed from n/a to 1.2"]
    assert again.stages == [STAGE]
    assert load(tiny_model_dir).notes == [BEFORE]
    the_blob()  # the stale one is gone


def test_other_properties_are_compiled_beside_the_first(tiny_model_dir: Path) -> None:
    load(tiny_model_dir)
    other = load(tiny_model_dir, GENERATE_HINT="BEST_PERF")
    assert (other.stages, other.notes) == ([STAGE], [])
    assert load(tiny_model_dir).notes == [BEFORE]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_blob_is_compiled_again(tiny_model_dir: Path, damage: str) -> None:
    expected = load(tiny_model_dir).tokens
    content = bytearray(the_blob().read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = {"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}
    the_blob().write_bytes(damaged[damage])
    again = load(tiny_model_dir)
    (note,) = again.notes
    assert note.startswith("compiled again: what was kept cannot be used (")
    assert (again.stages, again.tokens) == ([STAGE], expected)
    assert load(tiny_model_dir).notes == [BEFORE]


def test_a_blob_that_the_plugin_refuses_is_compiled_again(tiny_model_dir: Path) -> None:
    """A whole file with the right sha256, but of another program."""
    load(tiny_model_dir)
    key, blob = the_blob().parent / "key.json", the_blob()
    text = key.read_text(encoding="utf-8")
    size, sha256 = blob.stat().st_size, blobs.hash_file(blob).sha256
    blob.write_bytes(b"no blob at all")
    text = text.replace(f'"size": {size}', '"size": 14').replace(sha256, blobs.hash_file(blob).sha256)
    key.write_text(text, encoding="utf-8")
    again = load(tiny_model_dir)
    assert again.notes[0].startswith("compiled again: what was kept cannot be used (")
    assert load(tiny_model_dir).notes == [BEFORE]


def test_a_store_that_cannot_be_written_stops_nobody(tiny_model_dir: Path) -> None:
    store_root().mkdir(parents=True, exist_ok=True)
    (store_root() / "blobs").write_bytes(b"a file, where a directory should be")
    loaded = load(tiny_model_dir)
    assert loaded.stages == [STAGE]
    (note,) = loaded.notes
    assert note.startswith("the compiled model is not kept, and will be compiled anew next time: ")
    assert len(loaded.tokens) == 10


def test_a_disk_that_is_too_full_stops_nobody(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise DiskSpaceError("The disk is too full")

    monkeypatch.setattr(blobs, "refuse_full_disk", full)
    loaded = load(tiny_model_dir)
    assert (loaded.stages, len(loaded.tokens)) == ([STAGE], 10)
    assert "too full" in loaded.notes[0]
    assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_disk_that_fills_up_while_the_blob_is_written_stops_nobody(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = blobs.BlobWriting.begin

    def begin_on_full_disk(writing: blobs.BlobWriting) -> Path:
        blob = begin(writing)
        blob.symlink_to("/dev/full")
        return blob

    monkeypatch.setattr(blobs.BlobWriting, "begin", begin_on_full_disk)
    loaded = load(tiny_model_dir)
    assert (loaded.stages, len(loaded.tokens)) == ([STAGE, STAGE], 10)
    assert "could not be written" in loaded.notes[0]
    assert not list((store_root() / "blobs").glob("*/model.blob"))


def test_a_commit_that_fails_stops_nobody(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("the system refuses")

    monkeypatch.setattr(blobs, "rename", refuse)
    loaded = load(tiny_model_dir)
    assert (loaded.stages, len(loaded.tokens)) == ([STAGE], 10)
    assert "the system refuses" in loaded.notes[0]


def test_a_path_that_openvino_genai_cannot_open_stops_nobody(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = blobs.BlobWriting.begin
    monkeypatch.setattr(blobs.BlobWriting, "begin", lambda writing: begin(writing).parent / "none" / "model.blob")
    loaded = load(tiny_model_dir)
    assert (loaded.stages, len(loaded.tokens)) == ([STAGE, STAGE], 10)
    assert "could not be written" in loaded.notes[0]


def test_who_keeps_compiled_models_himself_is_left_alone(tiny_model_dir: Path, tmp_path: Path) -> None:
    load(tiny_model_dir, CACHE_DIR=str(tmp_path / "mine"))
    assert list((tmp_path / "mine").iterdir())
    assert not (store_root() / "blobs").exists()


def test_a_model_of_another_tool_is_known_by_its_place(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "theirs")
    (model / "aipc.json").unlink()
    assert load(model).notes == []
    assert load(model).notes == [BEFORE]
    os.utime(model / "openvino_model.bin", (5, 5))
    assert load(model).notes[0] == "compiled again: the model changed"


SLOW = """
import sys, time
from pathlib import Path
from aipc.engines import LoadOptions, Sampling, openvino, openvino_compiled
from aipc.engines.openvino_rehearsal import REHEARSAL

class Slow(openvino_compiled.StaticPipeline):
    def __init__(self, *arguments, properties, **keywords):
        super().__init__(*arguments, properties=properties, **keywords)
        if "EXPORT_BLOB" in properties:
            print("exported", flush=True)
            time.sleep(float(sys.argv[2]))

openvino_compiled.StaticPipeline = Slow
options = LoadOptions(
    context_tokens=128,
    properties={**REHEARSAL, "EXECUTION_MODE_HINT": "PERFORMANCE", "MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "64"},
    keeps_compiled=True,
    note=lambda text: print(text, flush=True),
)
with openvino.load(Path(sys.argv[1]), "npu", options) as session:
    print([step.token_id for step in session.stream(list(range(5, 45)), Sampling(max_tokens=10))], flush=True)
"""


def slow_process(model_dir: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, str(model_dir), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_second_process_waits_for_the_first_and_uses_its_blob(tiny_model_dir: Path) -> None:
    first = slow_process(tiny_model_dir, 3)
    assert first.stdout is not None
    assert first.stdout.readline() == "exported\n"
    second = slow_process(tiny_model_dir, 3)
    said, waited = first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]
    assert (first.returncode, second.returncode) == (0, 0)
    assert waited.splitlines() == ["another process is compiling this model: waiting for it", BEFORE, said.strip()]


def test_killed_while_it_compiles_nothing_is_left_that_loads(tiny_model_dir: Path) -> None:
    process = slow_process(tiny_model_dir, 600)
    assert process.stdout is not None
    assert process.stdout.readline() == "exported\n"
    process.kill()
    process.communicate(timeout=60)
    assert list((store_root() / "blobs").glob(".*.partial/model.blob"))
    begun = time.monotonic()
    loaded = load(tiny_model_dir)
    assert time.monotonic() - begun < 60  # the lock of a dead process holds nobody up
    assert (loaded.stages, loaded.notes) == ([STAGE], [])
    assert not list((store_root() / "blobs").glob(".*.partial"))
    assert load(tiny_model_dir).notes == [BEFORE]
    assert process.returncode == (-signal.SIGKILL if os.name == "posix" else 1)


def test_ctrl_c_is_noticed_while_the_compiler_works(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside of its call Python notices nothing, for minutes on an NPU."""
    compiling, may_end = threading.Event(), threading.Event()

    def compile_for_long(*_: object, **__: object) -> None:
        compiling.set()
        for _ in range(100):  # as a call of OpenVINO's, on which an interrupt has no effect
            with suppress(KeyboardInterrupt):
                may_end.wait(0.1)

    def interrupt() -> None:
        assert compiling.wait(60)
        _thread.interrupt_main()

    monkeypatch.setattr(import_genai(), "LLMPipeline", compile_for_long)
    begun = time.monotonic()
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            load(tiny_model_dir)
        assert time.monotonic() - begun < 5
        assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]
    finally:
        may_end.set()
