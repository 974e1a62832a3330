import _thread
import contextlib
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_files import LARGE_BYTES, WEIGHTS, manifest_of, write_model

from aipc.errors import AipcError, IntegrityError, StoreError
from aipc.store import MANIFEST, FileHasher, FileRecord, hash_file, read_manifest, verify
from aipc.store.hashing import SAMPLE_BLOCK_BYTES, SAMPLE_OVER_BYTES, hash_sample, sample_offsets
from aipc.store.manifest import to_json


@pytest.fixture(scope="module")
def large_bytes():
    return bytearray(os.urandom(LARGE_BYTES))


@pytest.fixture(scope="module")
def large_model(tmp_path_factory, large_bytes):
    contents = {"openvino_model.xml": b"<net/>", "openvino_model.bin": bytes(large_bytes)}
    return write_model(tmp_path_factory.mktemp("verify") / "large", contents=contents)


@pytest.fixture
def large_file(large_model, large_bytes):
    """The large model's weights, for a test to spoil; whole again afterwards."""
    path = large_model / "openvino_model.bin"
    yield path
    path.write_bytes(large_bytes)


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


@given(st.data())
def test_a_hash_made_while_writing_equals_one_of_the_whole(data):
    content = data.draw(st.binary(max_size=5000))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    hasher = FileHasher(len(content))
    for begin, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        hasher.update(content[begin:end])
    assert hasher.result() == FileRecord(len(content), hashlib.sha256(content).hexdigest())


@settings(max_examples=8, deadline=None)
@given(steps=st.lists(st.integers(1, 3_000_000), min_size=1, max_size=5))
def test_a_sample_made_while_writing_equals_one_read_from_the_disk(large_model, large_bytes, steps):
    hasher = FileHasher(LARGE_BYTES)
    view, done, turn = memoryview(large_bytes), 0, 0
    while done < LARGE_BYTES:
        step = max(steps[turn % len(steps)], 50_000)
        hasher.update(view[done : done + step])
        done, turn = done + step, turn + 1
    path = large_model / "openvino_model.bin"
    assert hasher.result() == hash_file(path)
    assert hasher.result().sample_sha256 == hash_sample(path)


@given(st.integers(0, 10**13))
def test_sample_blocks_are_first_last_apart_and_leave_no_gap_of_a_sixty_third(size):
    offsets = sample_offsets(size)
    if size <= SAMPLE_OVER_BYTES:
        assert offsets == ()
        return
    assert len(offsets) == 64 and offsets[0] == 0 and offsets[-1] == size - SAMPLE_BLOCK_BYTES
    gaps = [after - before - SAMPLE_BLOCK_BYTES for before, after in itertools.pairwise(offsets)]
    assert min(gaps) >= 0 and max(gaps) < size / 63


@pytest.mark.parametrize("step", [b"123456", b"12345678"])
def test_a_file_shorter_or_longer_than_announced_is_an_error(step):
    hasher = FileHasher(7)
    with pytest.raises(StoreError, match="expected 7 bytes"):
        hasher.update(step)
        hasher.result()


def test_a_whole_model_passes_both_checks_and_unknown_files_are_listed(model):
    (model / "notes.txt").write_text("mine", encoding="utf-8")
    for full in (True, False):
        assert verify(model, full=full).unlisted == ("notes.txt",)


def test_progress_ends_at_the_bytes_that_were_read(large_model):
    for full in (True, False):
        steps = []
        result = verify(large_model, full=full, progress=lambda done, total, to=steps: to.append((done, total)))
        assert steps[-1] == (result.read_bytes, result.read_bytes)
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)


def spoil_missing(path, data):
    path.unlink()


def spoil_truncated(path, data):
    os.truncate(path, len(data) - 1)


def spoil_longer(path, data):
    path.write_bytes(data + b"\0")


def spoil_zeroed(path, data):
    path.write_bytes(bytes(len(data)))


def spoil_empty(path, data):
    path.write_bytes(b"")


def spoil_directory(path, data):
    path.unlink()
    path.mkdir()


GROSS = [spoil_missing, spoil_truncated, spoil_longer, spoil_zeroed, spoil_empty, spoil_directory]


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("spoil", GROSS)
def test_gross_damage_is_caught_by_both_checks(model, spoil, full):
    spoil(model / "openvino_model.bin", WEIGHTS)
    with pytest.raises(IntegrityError, match=r"openvino_model\.bin.*expected.*found"):
        verify(model, full=full)


@pytest.mark.parametrize("spoil", GROSS[:5])
def test_gross_damage_to_a_large_file_is_caught_by_the_quick_check(large_model, large_file, large_bytes, spoil):
    spoil(large_file, bytes(large_bytes))
    with pytest.raises(IntegrityError, match=r"(?s)openvino_model\.bin.*aipc models verify .*large"):
        verify(large_model, full=False)


def test_another_large_file_of_the_same_size_is_caught_by_the_quick_check(large_model, large_file):
    large_file.write_bytes(os.urandom(LARGE_BYTES))
    with pytest.raises(IntegrityError, match="sample"):
        verify(large_model, full=False)


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 1))
def test_any_zeroed_region_of_a_sixty_third_is_caught_by_the_quick_check(large_model, large_bytes, place):
    path = large_model / "openvino_model.bin"
    length = LARGE_BYTES // 63 + 1
    begin = int(place * (LARGE_BYTES - length))
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(bytes(length))
    try:
        with pytest.raises(IntegrityError):
            verify(large_model, full=False)
    finally:
        with path.open("r+b") as file:
            file.seek(begin)
            file.write(large_bytes[begin : begin + length])


def test_one_flipped_bit_between_the_blocks_is_caught_by_the_full_check_alone(large_model, large_file):
    with large_file.open("r+b") as file:
        file.seek(100_000)  # the first block ends at 65,536, the second begins past 300,000
        byte = file.read(1)[0]
        file.seek(100_000)
        file.write(bytes([byte ^ 4]))
    verify(large_model, full=False)
    with pytest.raises(IntegrityError, match="sha256"):
        verify(large_model, full=True)


@pytest.fixture
def slow_model(tmp_path):
    """A model of 20 sparse gigabytes, whose verification takes ten seconds or more."""
    directory = tmp_path / "slow"
    directory.mkdir()
    names = ("openvino_model.bin", "openvino_model.xml")
    files = {name: FileRecord(10**10, "0" * 64, "1" * 64) for name in names}
    for name, record in files.items():
        with (directory / name).open("wb") as file:
            file.truncate(record.size_bytes)
    (directory / MANIFEST).write_text(to_json(manifest_of(files=files)), encoding="utf-8")
    return directory


@pytest.mark.skipif(sys.platform == "win32", reason="NTFS has sparse files for those alone who ask for them")
def test_ctrl_c_ends_a_verification_at_once(slow_model):
    before = set(threading.enumerate())
    interrupt = threading.Timer(0.3, _thread.interrupt_main)
    interrupt.start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        verify(slow_model)
    took_s = time.monotonic() - begun
    interrupt.join()
    assert set(threading.enumerate()) <= before
    assert took_s < 0.3 + 0.4


@pytest.mark.skipif(sys.platform == "win32", reason="a child cannot be sent Ctrl-C alone")
def test_ctrl_c_ends_the_command_at_once_with_130(slow_model):
    command = [sys.executable, "-m", "aipc", "models", "verify", str(slow_model)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(1.5)  # hashing by now
    assert process.poll() is None
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - begun < 0.5  # on a PC with nothing else to do a tenth of that
    assert (process.returncode, out, err) == (130, b"", b"interrupted\n")


def test_a_damaged_file_is_told_before_the_other_files_are_read_to_their_end(slow_model):
    (slow_model / "openvino_model.xml").write_bytes(b"x")
    files = {
        "openvino_model.bin": FileRecord(10**10, "0" * 64, "1" * 64),
        "openvino_model.xml": FileRecord(1, "0" * 64),
    }
    (slow_model / MANIFEST).write_text(to_json(manifest_of(files=files)), encoding="utf-8")
    begun = time.monotonic()
    with pytest.raises(IntegrityError, match=r"openvino_model\.xml"):
        verify(slow_model)
    assert time.monotonic() - begun < 1


def test_a_model_directory_without_manifest_is_not_whole(model):
    (model / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match=r"aipc\.json.*no such file"):
        verify(model)


def test_a_manifest_survives_writing_and_reading(tmp_path):
    manifest = manifest_of(files={"a.bin": FileRecord(20_000_000, "0" * 64, "1" * 64), "b": FileRecord(0, "2" * 64)})
    (tmp_path / MANIFEST).write_text(to_json(manifest), encoding="utf-8")
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/b", "a\\b", "..", "C:x", "NUL", ""])
def test_a_manifest_that_names_a_file_outside_is_refused(model, name):
    change_manifest(model, lambda document: document["files"].update({name: {"size": 1, "sha256": "0" * 64}}))
    with pytest.raises(IntegrityError, match="names a file that is not safe"):
        verify(model)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["context_tokens"], "4096"),
        (["context_tokens"], True),
        (["context_tokens"], -1),
        (["recipe"], []),
        (["source"], "x"),
        (["source", "name"], 5),
        (["source", "revision"], None),
        (["files"], {}),
        (["files", "openvino_model.bin"], 3),
        (["files", "openvino_model.bin", "size"], 1.5),
        (["files", "openvino_model.bin", "sha256"], "abc"),
        (["files", "openvino_model.bin", "size"], 20_000_000),
        (["created"], None),
    ],
)
def test_a_wrong_value_in_the_manifest_is_named_with_file_and_key(model, path, value):
    def change(document):
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    change_manifest(model, change)
    with pytest.raises(IntegrityError) as caught:
        verify(model)
    assert MANIFEST in str(caught.value) and "expected" in str(caught.value)
    assert path[0] in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_manifest_that_is_no_json_object_is_refused(model, text):
    (model / MANIFEST).write_bytes(text)
    with pytest.raises(IntegrityError, match=r"aipc\.json"):
        verify(model)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_bytes_in_place_of_the_manifest_raise_anything_but_aipcs_errors(tmp_path_factory, data):
    directory = tmp_path_factory.mktemp("fuzz")
    text = to_json(manifest_of(files={"a.bin": FileRecord(1, "0" * 64)})).encode()
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, len(text)))
    (directory / MANIFEST).write_bytes(text[:begin] + data.draw(st.binary(max_size=9)) + text[end:])
    with contextlib.suppress(AipcError):
        read_manifest(directory)


def test_a_manifest_of_a_newer_format_asks_for_an_upgrade(model):
    change_manifest(model, lambda document: document.update(format=2))
    with pytest.raises(StoreError, match="pip install --upgrade aipc"):
        verify(model)


def change_manifest(model, change):
    path = model / MANIFEST
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")
