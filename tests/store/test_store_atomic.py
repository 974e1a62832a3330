import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from model_files import WEIGHTS, manifest_of, record_of, write_model

from aipc.errors import DiskSpaceError, IntegrityError, StoreBusyError, StoreError, UsageError
from aipc.store import MANIFEST, Manifest, integrity, models, read_manifest, verify, writing
from aipc.store.atomic import SPARE_BYTES, hidden, is_locked, refuse_full_disk


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "models" / "tiny"


def left_beside(destination: Path) -> set[str]:
    """What is in the directory, but for the empty lock file that stays."""
    if not destination.parent.is_dir():
        return set()
    return {entry.name for entry in destination.parent.iterdir()} - {f".{destination.name}.lock"}


def test_a_committed_model_is_whole_and_nothing_lies_beside_it(destination):
    write_model(destination)
    assert verify(destination).unlisted == ()
    assert left_beside(destination) == {"tiny"}


def test_nothing_is_visible_under_the_name_before_the_commit(destination):
    with writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(b"x")
        assert not destination.exists() and models(destination.parent.parent)[0].state == "writing"
        task.commit(manifest_of())
        assert destination.is_dir()


def test_records_of_the_writer_are_kept_and_the_other_files_added(destination):
    with writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(WEIGHTS)
        (task.directory / "b.json").write_bytes(b"{}")
        returned = task.commit(manifest_of(files={"a.bin": record_of(WEIGHTS)}))
    assert returned == read_manifest(destination)
    assert returned.files == {"a.bin": record_of(WEIGHTS), "b.json": record_of(b"{}")}


@pytest.mark.parametrize("kept", [b"", WEIGHTS[:-1], WEIGHTS + b"x", WEIGHTS[:-1] + b"x", None])
def test_a_disk_that_does_not_hold_what_was_written_is_noticed(destination, kept):
    with (
        pytest.raises(IntegrityError, match=r"a\.bin(?s:.*)try: convert again"),
        writing(destination, needed_bytes=1) as task,
    ):
        if kept is not None:
            (task.directory / "a.bin").write_bytes(kept)
        task.commit(manifest_of(files={"a.bin": record_of(WEIGHTS)}))
    assert left_beside(destination) == set()


def test_a_checked_file_is_not_read_again_and_counts_all_the_same(destination, monkeypatch):
    with writing(destination, needed_bytes=1) as task:
        with task.checked_file("a.bin", len(WEIGHTS)) as file:
            file.write(memoryview(WEIGHTS))
        (task.directory / "b.bin").write_bytes(b"b")
        read = []
        monkeypatch.setattr(integrity, "hash_file", lambda path, advance: read.append(path.name) or record_of(b"b"))
        task.commit(manifest_of(files={"a.bin": record_of(WEIGHTS), "b.bin": record_of(b"b")}))
    monkeypatch.undo()
    assert read == ["b.bin"]
    assert set(verify(destination).manifest.files) == {"a.bin", "b.bin"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing_behind(destination, error):
    with pytest.raises(error), writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(WEIGHTS)
        raise error
    assert left_beside(destination) == set()


def test_leaving_without_a_commit_leaves_nothing_behind(destination):
    with writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(WEIGHTS)
    assert left_beside(destination) == set()


def test_an_existing_model_is_not_replaced_unless_forced(destination):
    write_model(destination)
    with pytest.raises(StoreError, match=r"already holds a model(?s:.*)--force"):
        write_model(destination, contents={"new.bin": b"new"})
    write_model(destination, contents={"new.bin": b"new"}, force=True)
    assert list(verify(destination).manifest.files) == ["new.bin"]
    assert left_beside(destination) == {"tiny"}


def test_a_forced_conversion_that_fails_keeps_the_old_model(destination):
    write_model(destination)
    with pytest.raises(RuntimeError), writing(destination, needed_bytes=1, force=True) as task:
        (task.directory / "a.bin").write_bytes(b"x")
        raise RuntimeError
    assert verify(destination).manifest == manifest_of(
        files=verify(destination).manifest.files, created=read_manifest(destination).created
    )
    assert left_beside(destination) == {"tiny"}


@pytest.mark.parametrize("force", [True, False])
def test_a_directory_that_is_no_model_is_never_replaced(tmp_path, force):
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "thesis.txt").write_text("years", encoding="utf-8")
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    link = tmp_path / "link"
    link.symlink_to(documents)
    for path in (documents, file, link):
        with pytest.raises(StoreError, match="is no converted model"):
            write_model(path, force=force)
    assert (link / "thesis.txt").read_text(encoding="utf-8") == "years"


@pytest.mark.parametrize("own", ["thesis.txt", "README.md", "a.bin", "notes/", "openvino_notes/", "vocab.json/"])
@pytest.mark.parametrize("manifest", ["whole", "damaged", "missing"])
def test_a_model_beside_a_persons_own_files_is_not_replaced_and_all_of_it_stays(destination, own, manifest):
    write_model(destination)
    path = destination / own
    path.mkdir() if own.endswith("/") else path.write_text("years", encoding="utf-8")
    if manifest == "damaged":
        (destination / MANIFEST).write_text("{", encoding="utf-8")
    elif manifest == "missing":
        (destination / MANIFEST).unlink()
    before = sorted(entry.name for entry in destination.iterdir())
    with pytest.raises(StoreError, match=rf"(?s)holds more than.*found {own.rstrip('/')}\ntry: move"):
        write_model(destination, force=True)
    assert sorted(entry.name for entry in destination.iterdir()) == before
    assert left_beside(destination) == {"tiny"}


def test_the_first_of_many_own_files_are_named_and_the_others_counted(destination):
    write_model(destination)
    for number in range(5):
        (destination / f"own-{number}").touch()
    with pytest.raises(StoreError, match="found own-0, own-1, own-2 and 2 more"):
        write_model(destination, force=True)


def test_an_own_file_put_into_the_model_while_it_is_being_replaced_stays(destination):
    write_model(destination)
    with (
        pytest.raises(StoreError, match=r"found thesis\.txt"),
        writing(destination, needed_bytes=1, force=True) as task,
    ):
        (task.directory / "a.bin").write_bytes(b"new")
        (destination / "thesis.txt").write_text("years", encoding="utf-8")
        task.commit(manifest_of())
    assert verify(destination).unlisted == ("thesis.txt",)
    assert left_beside(destination) == {"tiny"}


def test_a_model_that_came_to_the_destination_meanwhile_is_not_replaced(destination):
    with pytest.raises(StoreError, match="already holds a model"), writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(b"new")
        destination.mkdir()
        (destination / "openvino_model.xml").touch()
        task.commit(manifest_of())
    assert (destination / "openvino_model.xml").is_file()


@pytest.mark.parametrize("manifest", [True, False])
def test_what_other_programs_write_into_a_model_is_replaced(destination, manifest):
    write_model(destination)
    names = "openvino_tokenizer.xml openvino_detokenizer.bin openvino_config.json config.json tokenizer_config.json"
    names += " chat_template.jinja special_tokens_map.json merges.txt vocab.json tokenizer.model generation_config.json"
    for name in names.split():
        (destination / name).touch()
    if not manifest:
        (destination / MANIFEST).unlink()
    write_model(destination, contents={"new.bin": b"new"}, force=True)
    assert verify(destination).unlisted == ()
    write_model(destination, force=True)  # new.bin is no model's usual file, but the manifest lists it
    assert set(verify(destination).manifest.files) == {"openvino_model.bin", "openvino_model.xml"}


def test_an_empty_directory_counts_as_absent(destination):
    destination.mkdir(parents=True)
    write_model(destination)
    assert verify(destination)
    assert left_beside(destination) == {"tiny"}


def test_the_root_of_a_disk_is_no_place_for_a_model():
    with pytest.raises(UsageError), writing(Path("/"), needed_bytes=1):
        pass


def test_a_disk_too_full_is_refused_before_work_with_bytes_needed_and_free(destination, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=5_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    expected = f"{7_000_000_000 + SPARE_BYTES:,} bytes free, found 5,000,000 bytes free"
    with pytest.raises(DiskSpaceError, match=expected), writing(destination, needed_bytes=7_000_000_000):
        pytest.fail("work began")
    assert left_beside(destination) == set()


def test_a_drive_that_is_not_there_is_named_and_not_looked_for_endlessly(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)  # as on Windows below a drive without a disk
    with pytest.raises(StoreError, match=r"(?s)/drive/models.*no such disk.*try: "):
        refuse_full_disk(Path("/drive/models"), 1)


def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(destination):
    with pytest.raises(DiskSpaceError, match="too full"), writing(destination, needed_bytes=1) as task:
        (task.directory / "a.bin").write_bytes(b"x" * 1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert left_beside(destination) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is at hand on Linux only")
def test_a_full_disk_met_by_the_commit_leaves_nothing_behind(destination, monkeypatch):
    real_open = Path.open

    def full(path: Path, *mode: str, **options: object):
        return real_open(Path("/dev/full") if path.name == MANIFEST and mode == ("wb",) else path, *mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(DiskSpaceError):
        write_model(destination)
    assert left_beside(destination) == set()


def test_other_errors_of_the_body_pass_unchanged(destination):
    with pytest.raises(PermissionError), writing(destination, needed_bytes=1):
        raise PermissionError(errno.EACCES, "a checkpoint that cannot be read")


def test_a_parent_that_cannot_be_a_directory_names_the_path_and_the_fix(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match=r"(?s)file cannot be written.*give another directory"):
        write_model(tmp_path / "file" / "model")


def test_a_read_only_store_names_the_path_and_the_fix(read_only_directory):
    with pytest.raises(StoreError, match=r"(?s)cannot be written.*AIPC_HOME"):
        write_model(read_only_directory / "model")


def test_a_store_that_refuses_directories_names_the_path_and_the_fix(destination, monkeypatch):
    def refuse(path: Path, *values: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"(?s)models cannot be written: Permission denied.*AIPC_HOME"):
        write_model(destination)


@pytest.mark.parametrize("make", ["mkdir", "symlink"])
def test_only_plain_files_become_part_of_a_model(destination, make):
    with pytest.raises(StoreError, match="expected a file"), writing(destination, needed_bytes=1) as task:
        path = task.directory / "strange"
        path.mkdir() if make == "mkdir" else path.symlink_to("/etc/passwd")
        task.commit(manifest_of())
    assert left_beside(destination) == set()


def test_a_second_writer_is_told_at_once(destination):
    with writing(destination, needed_bytes=1):
        assert is_locked(destination)
        begun = time.monotonic()
        with pytest.raises(StoreBusyError, match="another process"):
            write_model(destination)
        assert time.monotonic() - begun < 2
    write_model(destination)
    assert not is_locked(destination)


SCRIPT = """
import sys, time
from pathlib import Path
from aipc.store import FileHasher, Manifest, Origin, writing
destination, pause = Path(sys.argv[1]), float(sys.argv[2])
with writing(destination, needed_bytes=1, force=True) as task:
    print("begun", flush=True)
    hasher = FileHasher(20 * 50_000)
    with (task.directory / "openvino_model.bin").open("wb") as file:
        for block in range(20):
            data = bytes([block]) * 50_000
            file.write(data); hasher.update(data); time.sleep(pause / 20)
    (task.directory / "openvino_model.xml").write_text("<net/>", encoding="utf-8")
    task.commit(Manifest(Origin("n", "/n"), {}, "phi3", 1, 1, {"openvino_model.bin": hasher.result()}))
"""


def start(destination: Path, pause_s: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(destination), str(pause_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def test_killed_at_random_times_nothing_loads_and_a_rerun_finishes(destination):
    for kill_after_s in (0.0, 0.02, 0.05, 0.08, 0.1, 0.11, 0.12, 0.13):
        process = start(destination, pause_s=0.1)
        time.sleep(kill_after_s)
        process.kill()  # SIGKILL; TerminateProcess on Windows
        process.wait()
        if destination.exists():
            verify(destination)
            shutil.rmtree(destination)
    assert start(destination, pause_s=0.0).wait() == 0
    verify(destination)
    assert left_beside(destination) == {"tiny"}


def test_a_writer_waits_for_another_process_when_told_to(destination):
    process = start(destination, pause_s=0.3)
    with pytest.raises(StoreBusyError):
        write_model(destination)
    with pytest.raises(StoreError, match="already holds"), writing(destination, needed_bytes=1, wait_s=30):
        pass
    assert process.wait() == 0


def die_at_event(number: int, destination: Path, *, force: bool) -> int:
    """Write a model in a child that ends, without any cleaning up, at its `number`th file operation."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seen = 0

    def count(event: str, values: tuple[object, ...]) -> None:
        nonlocal seen
        if event.startswith(("open", "os.", "shutil.", "fcntl.")):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        write_model(destination, contents={"openvino_model.bin": b"new"}, force=force)
        os._exit(0)
    finally:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("force", [False, True])
def test_killed_before_any_file_operation_the_model_is_absent_or_whole_and_a_rerun_finishes(destination, force):
    root = destination.parent.parent
    if force:
        write_model(destination, contents={"openvino_model.bin": b"old"})
    number, died, wholes = 0, True, 0
    while died:
        number += 1
        died = die_at_event(number, destination, force=force) != 0
        if destination.exists():
            assert verify(destination).unlisted == ()
            shutil.rmtree(destination)
            wholes += 1
        assert all(model.state == "incomplete" for model in models(root))
        write_model(destination, contents={"openvino_model.bin": b"old"}, force=force)
        verify(destination)
        assert left_beside(destination) == {"tiny"}
        if not force:
            shutil.rmtree(destination)
    assert number > 15 and wholes >= 1


def test_a_process_killed_between_the_two_renames_of_a_replacement_loses_no_model(destination):
    write_model(destination)
    destination.rename(hidden(destination, "old"))
    with pytest.raises(StoreError, match="already holds a model"):
        write_model(destination)
    verify(destination)


def test_the_manifest_says_who_wrote_it_and_when(destination):
    manifest: Manifest = read_manifest(write_model(destination))
    assert manifest.aipc_version.count(".") >= 1
    assert manifest.created.endswith("+00:00")


def test_a_replacement_whose_last_rename_fails_leaves_the_old_model(destination, monkeypatch):
    write_model(destination)
    renames = []

    def fail_at_the_second(source, target):
        renames.append(target)
        if len(renames) == 2:
            raise StoreError("injected")
        source.rename(target)

    monkeypatch.setattr("aipc.store.atomic.rename", fail_at_the_second)
    with pytest.raises(StoreError, match="injected"):
        write_model(destination, contents={"new.bin": b"new"}, force=True)
    assert "new.bin" not in verify(destination).manifest.files
    assert left_beside(destination) == {"tiny"}
