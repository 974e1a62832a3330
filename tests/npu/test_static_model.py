"""The drop-in's models for the NPU, rehearsed on the CPU: compiled once, and the same from the store."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import openvino
import pytest
from rehearsed import BEFORE, KEPT, SHAPE, STAGE, the_blob

from aipc.conversion import convert
from aipc.engines import LoadOptions, openvino_kept
from aipc.engines import openvino as engine
from aipc.engines.openvino_rehearsal import REHEARSAL
from aipc.errors import EngineError
from aipc.floats import Float32
from aipc.npu.network import Network, find_place
from aipc.store import blobs, store_root


@dataclass
class Loaded:
    """What a load showed, and the logits of a prompt and of the tokens after it, (steps, vocabulary)."""

    stages: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    logits: list[Float32] = field(default_factory=list)

    def computes_as(self, other: Loaded) -> bool:
        return len(self.logits) == 6 and np.array_equal(self.logits, other.logits)


def load(model_dir: Path, *, from_memory: bool = False, **properties: str) -> Loaded:
    loaded = Loaded()
    network = Network(
        model_dir,
        find_place("npu", rehearse=True, properties={**SHAPE, **properties}),
        from_memory=from_memory,
        progress=lambda stage, *_: loaded.stages.append(stage),
        note=loaded.notes.append,
    )
    network.reset()
    ids = np.arange(5, 45)[None]  # (1, 40)
    for past_tokens in (0, *range(40, 45)):
        tokens = ids.shape[1]
        mask, positions = np.ones((1, past_tokens + tokens), np.int64), np.arange(past_tokens, past_tokens + tokens)
        logits = network.logits(ids, mask, positions[None], np.zeros(1, np.int32), kept=1)[0, 0]
        loaded.logits.append(logits)
        ids = logits.argmax()[None, None]
    return loaded


def test_the_second_load_compiles_nothing_and_computes_the_same(tiny_model_dir: Path) -> None:
    first, second = load(tiny_model_dir), load(tiny_model_dir)
    assert (first.stages, first.notes) == ([STAGE], [])
    assert (second.stages, second.notes) == ([], [BEFORE])
    assert second.computes_as(first)


def test_fp16_weights_stay_in_the_models_own_file(tiny_checkpoint_dir: Path, tmp_path: Path) -> None:
    model = convert(tiny_checkpoint_dir, tmp_path / "fp16", weights="fp16").path
    first, second = load(model), load(model)
    assert second.notes == [BEFORE]
    assert second.computes_as(first)
    assert the_blob().stat().st_size < 0.5 * (model / "openvino_model.bin").stat().st_size


@pytest.mark.parametrize(
    "property_text", ["EXECUTION_MODE_HINT=PERFORMANCE", "DYNAMIC_QUANTIZATION_GROUP_SIZE=0", "GENERATE_HINT=BEST_PERF"]
)
def test_other_properties_are_compiled_beside_the_first_and_come_back_with_their_blob(
    tiny_model_dir: Path, property_text: str
) -> None:
    name, _, value = property_text.partition("=")
    load(tiny_model_dir)
    first, second = (load(tiny_model_dir, **{name: value}) for _ in range(2))
    assert (first.stages, first.notes, second.notes) == ([STAGE], [], [BEFORE])
    assert second.computes_as(first)
    assert load(tiny_model_dir).notes == [BEFORE]


def test_a_model_in_memory_is_not_kept(tiny_model_dir: Path) -> None:
    assert load(tiny_model_dir, from_memory=True).stages == [STAGE]
    assert not (store_root() / "blobs").exists()


def test_openvino_genais_blob_is_another_and_stays(tiny_model_dir: Path) -> None:
    said: list[str] = []
    properties = {**REHEARSAL, **KEPT, **SHAPE}
    options = LoadOptions(context_tokens=128, properties=properties, keeps_compiled=True, note=said.append)
    with engine.load(tiny_model_dir, "npu", options):
        assert load(tiny_model_dir, **KEPT).notes == []
    with engine.load(tiny_model_dir, "npu", options):
        assert said == load(tiny_model_dir, **KEPT).notes == [BEFORE]


def test_a_new_driver_compiles_again_and_says_why(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(tiny_model_dir)
    monkeypatch.setattr(openvino_kept, "_said", lambda _, name: "1.2" if name == "NPU_DRIVER_VERSION" else "n/a")
    again = load(tiny_model_dir)
    assert (again.stages, again.notes) == ([STAGE], ["compiled again: the driver changed from n/a to 1.2"])
    the_blob()  # the stale one is gone


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_blob_is_compiled_again(tiny_model_dir: Path, damage: str) -> None:
    first = load(tiny_model_dir)
    content = bytearray(the_blob().read_bytes())
    content[len(content) // 2] ^= 0xFF
    damaged = {"truncated": content[: len(content) // 2], "flipped": content, "empty": b""}
    the_blob().write_bytes(damaged[damage])
    again = load(tiny_model_dir)
    (note,) = again.notes
    assert note.startswith("compiled again: what was kept cannot be used (")
    assert again.stages == [STAGE]
    assert again.computes_as(first)
    assert load(tiny_model_dir).notes == [BEFORE]


@pytest.mark.parametrize("content", [b"no blob at all", b""])
def test_a_blob_that_the_plugin_refuses_is_compiled_again(
    tiny_model_dir: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole file with the right sha256, but of another program. Windows could not remove it while it is mapped."""
    drop, maps = openvino_kept.drop_blob, Path("/proc/self/maps")

    def dropped(key: blobs.BlobKey) -> None:
        assert not maps.exists() or str(the_blob()) not in maps.read_text(encoding="utf-8")
        drop(key)

    monkeypatch.setattr(openvino_kept, "drop_blob", dropped)
    load(tiny_model_dir)
    key, blob = the_blob().parent / "key.json", the_blob()
    text = key.read_text(encoding="utf-8")
    size, sha256 = blob.stat().st_size, blobs.hash_file(blob).sha256
    blob.write_bytes(content)
    text = text.replace(f'"size": {size}', f'"size": {len(content)}').replace(sha256, blobs.hash_file(blob).sha256)
    key.write_text(text, encoding="utf-8")
    assert load(tiny_model_dir).notes[0].startswith("compiled again: what was kept cannot be used (")
    assert load(tiny_model_dir).notes == [BEFORE]


def test_a_store_that_cannot_be_written_stops_nobody(tiny_model_dir: Path) -> None:
    store_root().mkdir(parents=True, exist_ok=True)
    (store_root() / "blobs").write_bytes(b"a file, where a directory should be")
    loaded = load(tiny_model_dir)
    assert (loaded.stages, len(loaded.logits)) == ([STAGE], 6)
    (note,) = loaded.notes
    assert note.startswith("the compiled model is not kept, and will be compiled anew next time: ")


def test_a_blob_that_cannot_be_written_costs_no_second_compilation(
    tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    begin, compile_model = blobs.BlobWriting.begin, openvino.Core.compile_model

    def counted(core: openvino.Core, model: object, device: str, properties: dict[str, str]) -> object:
        compiled.append(device)
        return compile_model(core, model, device, properties)

    monkeypatch.setattr(blobs.BlobWriting, "begin", lambda writing: begin(writing).parent / "none" / "model.blob")
    monkeypatch.setattr(openvino.Core, "compile_model", counted)
    loaded = load(tiny_model_dir)
    assert (compiled, len(loaded.logits)) == (["NPU"], 6)
    assert "could not be written: " in loaded.notes[0]
    assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]


def test_a_model_that_openvino_refuses_is_an_error_and_not_kept(tiny_model_dir: Path, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model_dir, tmp_path / "damaged")
    (model / "openvino_model.xml").write_text("<net/>", encoding="utf-8")
    with pytest.raises(EngineError, match="cannot be loaded"):
        load(model)
    assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]


def test_who_keeps_compiled_models_himself_is_left_alone(tiny_model_dir: Path, tmp_path: Path) -> None:
    assert load(tiny_model_dir, CACHE_DIR=str(tmp_path / "mine")).stages == [STAGE]
    assert list((tmp_path / "mine").iterdir())
    assert not (store_root() / "blobs").exists()


SLOW = """
import sys, time
from pathlib import Path
import openvino
from aipc.npu.network import Network, find_place

export = openvino.CompiledModel.export_model

def slow(compiled):
    print("exported", flush=True)
    time.sleep(3)
    return export(compiled)

openvino.CompiledModel.export_model = slow
place = find_place("npu", rehearse=True, properties={"MAX_PROMPT_LEN": "64", "MIN_RESPONSE_LEN": "64"})
Network(Path(sys.argv[1]), place, note=lambda text: print(text, flush=True)).reset()
"""


def test_a_second_process_waits_for_the_first_and_uses_its_blob(tiny_model_dir: Path) -> None:
    command = [sys.executable, "-c", SLOW, str(tiny_model_dir)]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    assert first.stdout.readline() == "exported\n"
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said, waited = first.communicate(timeout=120)[0], second.communicate(timeout=120)[0]
    assert (first.returncode, second.returncode, said) == (0, 0, "")
    assert waited.splitlines() == ["another process is compiling this model: waiting for it", BEFORE]
