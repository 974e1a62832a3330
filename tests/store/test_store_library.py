import contextlib
import errno
import hashlib
import os
import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from model_files import manifest_of, write_model

from aipc import guide
from aipc.errors import (
    AipcError,
    ConfigError,
    IntegrityError,
    ModelNotFoundError,
    StoreBusyError,
    StoreError,
    UsageError,
    WeightError,
)
from aipc.store import (
    MANIFEST,
    Origin,
    Source,
    find_stored,
    models,
    models_directory,
    name_for,
    origin_of,
    remove,
    resolve,
    writing,
)

RECIPE = "int4-g128-sym"


@pytest.fixture
def checkpoint(tmp_path):
    return make_checkpoint(tmp_path / "downloads" / "Phi-3-mini")


def make_checkpoint(directory):
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}", encoding="utf-8")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def store(name, origin=None):
    manifest = manifest_of(name)
    return write_model(
        models_directory() / name, manifest=manifest if origin is None else replace(manifest, origin=origin)
    )


def files_at(directory, *names):
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_bytes(b"x")
    return directory


def test_a_directory_with_an_openvino_model_is_converted(tmp_path):
    path = files_at(tmp_path / "m", "openvino_model.xml", "openvino_model.bin", "config.json", "x.safetensors")
    assert resolve(str(path)) == Source("converted", "m", path)


def test_a_directory_with_config_and_safetensors_is_a_checkpoint(checkpoint, monkeypatch):
    assert resolve(str(checkpoint)) == Source("checkpoint", "Phi-3-mini", checkpoint)
    monkeypatch.chdir(checkpoint)
    assert resolve(".") == Source("checkpoint", "Phi-3-mini", checkpoint)


def test_a_checkpoint_in_the_hubs_cache_has_its_repositorys_name_and_commit(tmp_path):
    path = make_checkpoint(tmp_path / "models--microsoft--Phi-3-mini" / "snapshots" / ("a" * 40))
    assert resolve(str(path)) == Source("checkpoint", "Phi-3-mini", path, "a" * 40)


def test_a_stored_name_is_found_and_a_directory_of_that_name_comes_first(tmp_path, monkeypatch):
    path = store("tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve("tiny") == Source("stored", "tiny", path)
    here = files_at(tmp_path / "tiny", "openvino_model.xml", "openvino_model.bin")
    assert resolve("tiny") == Source("converted", "tiny", here)


@pytest.mark.parametrize(
    ("text", "name", "revision"),
    [
        ("microsoft/Phi-3-mini-4k-instruct", "microsoft/Phi-3-mini-4k-instruct", None),
        ("microsoft/Phi-3.5-mini@main", "microsoft/Phi-3.5-mini", "main"),
        ("a_b/c@refs/pr/1", "a_b/c", "refs/pr/1"),
    ],
)
def test_a_hub_id_may_have_a_revision(text, name, revision):
    assert resolve(text) == Source("hub", name, None, revision)


@pytest.mark.parametrize(
    "text", ["a/b/c", "../x", "a/b@../c", "/no/where", "./x", "a--b/c", "a/b\n", "", "a\0b", "x" * 5000, "C:\\x"]
)
def test_what_is_nothing_is_refused_and_told_what_was_tried(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"(?s)no such directory.*hub id"):
        resolve(text)


def test_near_names_are_offered():
    store("phi-3-mini-4k-instruct-int4-g128-sym")
    store("tiny")
    for typed, expected in (("phi-3-mini", "phi-3-mini-4k-instruct-int4-g128-sym"), ("tyny", "tiny")):
        with pytest.raises(ModelNotFoundError, match=f"try: -m {expected}"):
            resolve(typed)


def test_a_link_to_the_hub_is_answered_with_its_hub_id():
    with pytest.raises(ModelNotFoundError, match=r"try: -m microsoft/Phi-3-mini$"):
        resolve("https://huggingface.co/microsoft/Phi-3-mini/tree/main")


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """A checkpoint in the embedded model's place."""
    monkeypatch.setattr(guide, "CHECKPOINT", make_checkpoint(tmp_path / "site-packages" / "checkpoint"))
    return guide.CHECKPOINT


def test_no_model_and_the_guide_are_the_embedded_one_and_a_directory_of_that_name_is_a_path(
    embedded, tmp_path, monkeypatch
):
    here = files_at(tmp_path / "guide", "openvino_model.xml", "openvino_model.bin")
    monkeypatch.chdir(tmp_path)
    assert resolve(None) == resolve("guide") == Source("embedded", "guide", embedded)
    assert resolve("./guide") == resolve(Path("guide")) == Source("converted", "guide", here)


def test_a_missing_embedded_model_is_told_and_what_to_type(embedded):
    (embedded / "model.safetensors").unlink()
    for model in (None, "guide"):
        with pytest.raises(ModelNotFoundError, match=r"(?s)missing from this installation.*reinstall.*-m"):
            resolve(model)


def test_the_embedded_model_is_known_by_its_content_wherever_and_whenever_it_was_installed(
    embedded, tmp_path, monkeypatch
):
    origin = origin_of(resolve(None))
    assert (origin.name, origin.location) == ("guide", "guide")
    os.utime(embedded / "model.safetensors", (1, 1))
    assert origin_of(resolve(None)) == origin
    monkeypatch.setattr(guide, "CHECKPOINT", shutil.copytree(embedded, tmp_path / "elsewhere"))
    assert origin_of(resolve(None)) == origin
    (guide.CHECKPOINT / "README.md").write_text("a card is no weight", encoding="utf-8")
    assert origin_of(resolve(None)) == origin
    (guide.CHECKPOINT / "model.safetensors").write_bytes(b"weight5")
    assert origin_of(resolve(None)) != origin


def test_new_weights_of_the_same_size_are_another_embedded_model(embedded):
    generator = random.Random(0)
    found = set()
    for _ in range(3):
        (embedded / "model.safetensors").write_bytes(generator.randbytes(3_000_000))
        found.add(origin_of(resolve(None)))
    assert len(found) == 3


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], ModelNotFoundError, "an empty directory"),
        (["notes.txt"], ModelNotFoundError, "found notes.txt"),
        (["config.json"], ModelNotFoundError, "found config.json"),
        (["model.safetensors"], ConfigError, "no config.json"),
        (["config.json", "pytorch_model.bin"], WeightError, "run code.*pytorch_model.bin"),
        (["config.json", "weights.pth"], WeightError, "run code"),
        (["openvino_model.xml"], IntegrityError, "found no openvino_model.bin"),
        (
            ["openvino_model.bin", "openvino_tokenizer.bin", "config.json"],
            IntegrityError,
            "found no openvino_model.xml",
        ),
        (["aipc.json", "config.json"], IntegrityError, "found no openvino_model.xml"),
    ],
)
def test_a_directory_that_is_no_model_says_what_is_missing_in_it(tmp_path, names, error, words):
    with pytest.raises(error, match=f"(?s){words}"):
        resolve(str(files_at(tmp_path / "d", *names)))


def test_a_file_is_answered_with_its_directory(checkpoint):
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve(str(checkpoint / "model.safetensors"))


def test_a_stored_directory_without_manifest_does_not_load():
    (store("tiny") / MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="aipc models rm tiny"):
        resolve("tiny")


def test_a_checkpoint_is_named_after_itself_and_its_recipe(checkpoint):
    origin = origin_of(resolve(str(checkpoint)))
    assert name_for(origin, RECIPE) == "phi-3-mini-int4-g128-sym"
    assert name_for(Origin("Phi-3-mini", "microsoft/Phi-3-mini"), RECIPE) == "phi-3-mini-int4-g128-sym"


def test_checkpoints_of_one_name_from_two_places_get_two_names_that_stay(checkpoint, tmp_path):
    first = origin_of(resolve(str(checkpoint)))
    second = origin_of(resolve(str(make_checkpoint(tmp_path / "other" / "Phi-3-mini"))))
    store(name_for(first, RECIPE), first)
    name = name_for(second, RECIPE)
    assert name.startswith("phi-3-mini-int4-g128-sym-")
    store(name, second)
    assert (name_for(first, RECIPE), name_for(second, RECIPE)) == ("phi-3-mini-int4-g128-sym", name)
    assert find_stored(first, RECIPE).name == "phi-3-mini-int4-g128-sym"
    assert find_stored(second, RECIPE).name == name


def test_new_weights_in_the_same_directory_are_not_taken_for_the_old_ones(checkpoint):
    origin = origin_of(resolve(str(checkpoint)))
    store(name_for(origin, RECIPE), origin)
    (checkpoint / "model.safetensors").write_bytes(b"fine-tuned weights")
    changed = origin_of(resolve(str(checkpoint)))
    assert find_stored(changed, RECIPE) is None
    assert name_for(changed, RECIPE) != name_for(origin, RECIPE)


def test_a_hub_model_is_found_without_its_commit_and_by_it(checkpoint):
    downloaded = origin_of(Source("hub", "org/Phi-3-mini", revision="c" * 40), checkpoint)
    assert downloaded.config_sha256 == hashlib.sha256(b"{}").hexdigest()
    store(name_for(downloaded, RECIPE), downloaded)
    assert find_stored(origin_of(resolve("org/Phi-3-mini")), RECIPE).manifest.origin == downloaded
    assert find_stored(origin_of(Source("hub", "org/Phi-3-mini", revision="c" * 40)), RECIPE)
    assert find_stored(origin_of(Source("hub", "org/Phi-3-mini", revision="d" * 40)), RECIPE) is None
    assert find_stored(origin_of(resolve("else/Phi-3-mini")), RECIPE) is None
    assert find_stored(downloaded, "int8-sym") is None


def test_a_damaged_stored_model_is_not_found_for_its_checkpoint(checkpoint):
    origin = origin_of(resolve(str(checkpoint)))
    (store(name_for(origin, RECIPE), origin) / "openvino_model.bin").write_bytes(b"")
    assert find_stored(origin, RECIPE) is None


def test_models_lists_recipe_size_and_origin_and_passes_over_junk():
    assert models() == []
    store("b")
    store("a")
    (models_directory() / "notes.txt").write_text("x", encoding="utf-8")
    for junk in (".git", "con", "my model", ".x.partial.y"):
        (models_directory() / junk).mkdir()
    first, second = models()
    assert (first.name, second.name, first.state) == ("a", "b", "ok")
    assert first.size_bytes == first.manifest.size_bytes > 0
    assert first.manifest.recipe["weights"] == "int4"


def test_what_is_not_whole_is_listed_with_its_reason_and_its_bytes():
    (store("short") / "openvino_model.bin").write_bytes(b"x")
    (store("bare") / MANIFEST).unlink()
    files_at(models_directory() / ".killed.partial", "a.bin")
    listed = {model.name: model for model in models()}
    assert {model.state for model in listed.values()} == {"incomplete"}
    assert "openvino_model.bin" in listed["short"].problem
    assert MANIFEST in listed["bare"].problem
    assert "interrupted" in listed["killed"].problem and listed["killed"].size_bytes == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_leftover_in_a_store_that_cannot_be_written_is_listed_with_what_is_not_known_of_it(monkeypatch, number):
    store("whole")
    files_at(models_directory() / ".killed.partial", "a.bin")
    (models_directory() / ".killed.lock").touch()

    def refuse(*values: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    killed, whole = models()
    assert (killed.state, killed.size_bytes, whole.state) == ("incomplete", 1, "ok")
    assert f"whether it is being written cannot be told: {os.strerror(number)}" in killed.problem


def test_what_goes_away_while_it_is_listed_is_no_failure():
    busy = models_directory() / ".busy.partial"
    done = threading.Event()

    def write_and_delete() -> None:
        while not done.is_set():
            busy.mkdir(parents=True)
            for number in range(5):
                (busy / f"{number}").touch()
            shutil.rmtree(busy)

    writer = threading.Thread(target=write_and_delete)
    writer.start()
    try:
        for _ in range(1000):
            assert [model.name for model in models()] in (["busy"], [])
    finally:
        done.set()
        writer.join()


def test_a_removed_model_is_gone_with_its_leftovers():
    path = store("tiny")
    files_at(models_directory() / ".tiny.partial", "a.bin")
    assert remove("tiny") > 1
    assert not path.exists() and models() == []
    assert [entry.name for entry in models_directory().iterdir()] == [".tiny.lock"]


def test_leftovers_alone_can_be_removed():
    files_at(models_directory() / ".tiny.partial", "a.bin")
    assert remove("tiny") == 1
    assert models() == []


def test_a_model_being_written_cannot_be_removed():
    path = store("tiny")
    with writing(path, needed_bytes=1, force=True), pytest.raises(StoreBusyError):
        remove("tiny")
    assert path.is_dir()


def test_removing_a_link_leaves_what_it_points_to(tmp_path):
    real = write_model(tmp_path / "elsewhere" / "tiny")
    models_directory().mkdir(parents=True)
    (models_directory() / "tiny").symlink_to(real)
    remove("tiny")
    assert real.is_dir() and models() == []


def test_removing_what_is_not_there_is_an_error():
    with pytest.raises(ModelNotFoundError, match="aipc models"):
        remove("tiny")


@pytest.mark.parametrize("name", ["..", "../tiny", "/", "", "."])
def test_removing_never_leaves_the_store(name, tmp_path):
    (tmp_path / "tiny").mkdir()
    with pytest.raises(UsageError):
        remove(name)
    assert (tmp_path / "tiny").is_dir()


def test_an_unreadable_store_is_one_of_aipcs_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("AIPC_HOME", str(tmp_path))
    (tmp_path / "models").write_text("x", encoding="utf-8")
    with pytest.raises(StoreError, match="AIPC_HOME"):
        models()


def test_no_text_makes_resolve_raise_anything_but_aipcs_errors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("\ud800", "~nobody-here/x", "a" * 300 + "/b", "%00", "a/b@" + "c" * 5000, "\\\\server\\share", "~"):
        with contextlib.suppress(AipcError):
            resolve(text)


def test_a_stored_model_that_may_not_be_looked_at_is_one_of_aipcs_errors(monkeypatch):
    store("tiny")
    real_is_dir = Path.is_dir

    def refuse(path: Path) -> bool:
        if path.name == "tiny":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real_is_dir(path)

    monkeypatch.setattr(Path, "is_dir", refuse)
    with pytest.raises(StoreError, match=r"(?s)tiny cannot be read: Permission denied\ntry: "):
        resolve("tiny")
