"""Compiled models in the store: whole or absent, for one key each, and not too many of them."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from model_files import write_model

from aipc.errors import DiskSpaceError, IntegrityError, StoreError
from aipc.progress import unsaid
from aipc.store import blobs as blobs_module
from aipc.store import models_directory, remove, store_root
from aipc.store.atomic import locked
from aipc.store.blobs import (
    BLOB,
    BlobKey,
    blob_bytes,
    bytes_compiled_of,
    drop_blob,
    find_blob,
    remove_blobs,
    why_stale,
    writing_blob,
)

PARTS = {"model": "sha256 1", "plugin": "1.0", "driver": "7", "compiler": "3", "platform": "4000", "properties": "{}"}


@pytest.fixture
def key(tmp_path: Path) -> BlobKey:
    return BlobKey(tmp_path / "model", "prompt 256 + answer 128 tokens", PARTS)


def write(key: BlobKey, content: bytes = b"machine code") -> Path:
    with writing_blob(key, needed_bytes=0, note=unsaid) as writing:
        writing.begin().write_bytes(content)
        writing.commit()
    blob = find_blob(key)
    assert blob is not None
    return blob


def kept() -> list[str]:
    return sorted(path.name for path in (store_root() / "blobs").iterdir() if not path.name.startswith("."))


def test_a_blob_is_found_by_its_key_alone(key: BlobKey, tmp_path: Path) -> None:
    assert find_blob(key) is None
    assert write(key).read_bytes() == b"machine code"
    assert find_blob(replace(key, model_dir=tmp_path / "moved")) is not None
    for other in (replace(key, shape="prompt 512 + answer 128 tokens"), replace(key, parts={**PARTS, "driver": "8"})):
        assert find_blob(other) is None


@pytest.mark.parametrize("part", [part for part in PARTS if part != "properties"])
def test_what_changed_is_named(key: BlobKey, part: str) -> None:
    write(key)
    assert why_stale(key) is None
    changed = replace(key, parts={**PARTS, part: "new"})
    values = "" if part == "model" else f" from {PARTS[part]} to new"
    assert why_stale(changed) == f"the {part} changed{values}"


def test_other_properties_are_no_reason_and_leave_the_blob(key: BlobKey) -> None:
    """A rehearsal does not cost an NPU its compiled model, nor does one try with a property."""
    write(key)
    rehearsal = replace(key, parts={**PARTS, "properties": '{"NPUW_DEVICES": "CPU"}', "platform": "a CPU"})
    assert why_stale(rehearsal) is None
    write(rehearsal)
    assert kept() == sorted([key.name, rehearsal.name])


def test_another_shape_or_another_model_is_not_stale(key: BlobKey, tmp_path: Path) -> None:
    write(key)
    changed = {**PARTS, "driver": "8"}
    assert why_stale(replace(key, parts=changed, shape="prompt 512 + answer 128 tokens")) is None
    assert why_stale(replace(key, parts={**changed, "model": "sha256 2"}, model_dir=tmp_path / "other")) is None


def test_stale_blobs_go_when_a_new_one_comes_and_few_shapes_stay(key: BlobKey, tmp_path: Path) -> None:
    other_model = replace(key, model_dir=tmp_path / "other", parts={**PARTS, "model": "sha256 2"})
    write(other_model)
    write(key)
    new = [replace(key, shape=f"shape {n}", parts={**PARTS, "driver": "8"}) for n in range(6)]
    for age, one in enumerate(new):
        os.utime(write(one).parent / "key.json", (1000 + age, 1000 + age))
    assert kept() == sorted(one.name for one in (other_model, *new[2:]))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone", "no manifest", "infinite", "deep", "of another"])
def test_a_damaged_blob_is_not_handed_on(key: BlobKey, damage: str) -> None:
    blob = write(key)
    if damage == "truncated":
        blob.write_bytes(b"machine")
    elif damage == "flipped":
        blob.write_bytes(b"machine cods")
    elif damage == "gone":
        blob.unlink()
    elif damage == "of another":
        other = write(replace(key, parts={**PARTS, "model": "sha256 2", "properties": "{1}"}), b"another's code")
        shutil.copytree(other.parent, blob.parent, dirs_exist_ok=True)
    else:
        manifest = blob.parent / "key.json"
        whole = manifest.read_text(encoding="utf-8")
        size = f'"size": {len(b"machine code")}'
        assert size in whole
        lies = {"no manifest": "{", "infinite": whole.replace(size, '"size": Infinity'), "deep": "[" * 100_000}
        manifest.write_text(lies[damage], encoding="utf-8")
    with pytest.raises(IntegrityError):
        find_blob(key)
    assert write(key).read_bytes() == b"machine code"  # what is damaged stands in nobody's way


def test_what_is_not_committed_leaves_nothing(key: BlobKey) -> None:
    with pytest.raises(KeyError), writing_blob(key, needed_bytes=0, note=unsaid) as writing:
        writing.begin().write_bytes(b"half")
        raise KeyError
    assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]


def test_what_a_killed_process_left_goes_with_the_next_blob(key: BlobKey) -> None:
    write(key)
    blobs, running = store_root() / "blobs", replace(key, shape="running")
    for name in ("dead.partial", "dead.removed"):
        (blobs / f".{name}").mkdir()
        (blobs / f".{name}" / BLOB).write_bytes(b"half")
    with writing_blob(running, needed_bytes=0, note=unsaid) as writing:
        writing.begin().write_bytes(b"half")
        write(replace(key, shape="new"))
        assert [path.name for path in blobs.iterdir() if path.suffix in (".partial", ".removed")] == [
            f".{running.name}.partial"
        ]


def test_a_removal_that_was_killed_is_in_nobodys_way(key: BlobKey) -> None:
    blob = write(key)
    left = blob.parent.with_name(f".{key.name}.removed")
    left.mkdir()
    (left / BLOB).write_bytes(b"old")
    drop_blob(key)
    assert not blob.exists()
    assert not left.exists()


def test_a_disk_that_is_too_full_is_refused_first(key: BlobKey) -> None:
    with writing_blob(key, needed_bytes=2**60, note=unsaid) as writing, pytest.raises(DiskSpaceError):
        writing.begin()
    assert [path.suffix for path in (store_root() / "blobs").iterdir()] == [".lock"]


def test_removing_a_model_removes_what_was_compiled_of_it(key: BlobKey) -> None:
    path = write_model(models_directory() / "mine")
    before = remove("mine")
    write_model(path)
    write(replace(key, model_dir=path), b"x" * 1000)
    write(replace(key, parts={**PARTS, "model": "sha256 2"}))
    assert remove("mine") == before + 1000
    assert len(kept()) == 1
    assert remove_blobs(key.model_dir) > 0
    assert kept() == []


def test_what_is_in_use_stays_and_is_not_said_to_have_made_room(key: BlobKey) -> None:
    shapes = [f"prompt {tokens} + answer 128 tokens" for tokens in (64, 128, 192, 320)]
    for shape in shapes:
        write(replace(key, shape=shape))
    oldest = store_root() / "blobs" / replace(key, shape=shapes[0]).name
    os.utime(oldest / "key.json", (1, 1))
    for held, made_room in ((True, []), (False, [shapes[0]])):
        with locked(oldest) if held else nullcontext(), writing_blob(key, needed_bytes=0, note=unsaid) as writing:
            writing.begin().write_bytes(b"machine code")
            assert writing.commit() == made_room
    assert not oldest.exists()


def test_a_link_to_itself_is_no_models_place(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert (bytes_compiled_of(loop), remove_blobs(loop)) == (0, 0)


def test_what_compiled_models_take_is_told_by_model(key: BlobKey, tmp_path: Path) -> None:
    assert blob_bytes() == {}
    write(key, b"four")
    write(replace(key, shape="prompt 512 + answer 128 tokens"), b"seven..")
    write(replace(key, model_dir=tmp_path / "other", parts={**PARTS, "model": "sha256 2"}), b"two")
    assert blob_bytes() == {tmp_path / "model": 11, tmp_path / "other": 3}


def test_a_second_writer_waits_and_says_so(key: BlobKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "_MOST_TURNS", 2)
    monkeypatch.setattr(blobs_module, "_TURN_S", 0.01)
    said: list[str] = []
    with writing_blob(key, needed_bytes=0, note=unsaid) as first:
        with pytest.raises(StoreError, match="another process"), writing_blob(key, needed_bytes=0, note=said.append):
            pass
        first.begin().write_bytes(b"machine code")
        first.commit()
    assert said == ["another process is compiling this model: waiting for it"]
    assert (find_blob(key) or Path()).name == BLOB
