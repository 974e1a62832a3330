import ntpath
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.errors import StoreError, UsageError, WeightError
from aipc.store import Origin, model_path, models_directory, name_for, store_root, validate_file_name
from aipc.store.names import is_model_name, slug

# The standard library's own idea of a reserved name; pathlib's went away in Python 3.15.
is_reserved_on_windows = getattr(ntpath, "isreserved", lambda name: PureWindowsPath(name).is_reserved())
DANGEROUS = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "C:",
    "C:\\x",
    "c:x",
    "x:stream",
    "nul",
    "CON.safetensors",
    "com1.bin",
    "LPT³.txt",
    "conin$",
    "aux .txt",
    "name.",
    "name ",
    " name",
    "a\0b",
    "a\nb",
    "a\x1bb",
    "\ud800",
    "x" * 300,
    "what?",
    "*",
    "|",
    '"',
    "<a>",
    None,
    7,
    ["a"],
]
ORDINARY = [
    "openvino_model.bin",
    "model-00001-of-00002.safetensors",
    "a b.json",
    "été.json",
    ".hidden",
    "console",
    "com10",
]


@pytest.mark.parametrize("name", DANGEROUS)
def test_a_dangerous_file_name_is_refused_and_the_holder_named(name):
    with pytest.raises(WeightError, match=r"index\.json names a file"):
        validate_file_name(name, where="index.json", error=WeightError)


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_file_name_is_kept_as_it_is(name):
    assert validate_file_name(name, where="x") == name


@given(st.text())
def test_an_accepted_file_name_is_one_component_on_both_systems_and_no_device(name):
    try:
        validate_file_name(name, where="x")
    except StoreError:
        return
    for flavour in (PurePosixPath, PureWindowsPath):
        assert (flavour("base") / name).parts == ("base", name)
        assert flavour(name).name == name
    assert not is_reserved_on_windows(name)


@pytest.mark.parametrize("name", [*DANGEROUS, "-rf", ".hidden", "a b", "guide", "GUIDE", "é", "x" * 97])
def test_a_name_that_no_model_can_have_is_refused(name, tmp_path):
    with pytest.raises(UsageError):
        model_path(name, models_dir=tmp_path)


@pytest.mark.parametrize("name", ["phi-3-mini-4k-instruct-int4-g128-sym", "A.b_c-1", "x" * 96])
def test_a_models_directory_is_directly_in_the_store(name, tmp_path):
    assert model_path(name, models_dir=tmp_path) == tmp_path / name


@given(st.text(), st.sampled_from(["int4-g128-sym", "fp16", "int4-g64-asym-r0.8"]))
def test_every_checkpoint_name_gives_a_name_that_a_model_can_have(tmp_path_factory, name, recipe):
    made = name_for(Origin(name, "/x"), recipe, tmp_path_factory.getbasetemp() / "no-store")
    assert is_model_name(made) and made.endswith(recipe)


@given(st.text())
def test_a_slug_is_lower_case_without_separators_and_stays_itself(text):
    made = slug(text)
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made)
    assert slug(made) == made


@pytest.mark.parametrize(
    ("environ", "platform", "expected"),
    [
        ({"AIPC_HOME": "/data/models"}, "linux", "/data/models"),
        ({"AIPC_HOME": "/data/models"}, "win32", "/data/models"),
        ({}, "linux", "/home/me/.local/share/aipc"),
        ({"XDG_DATA_HOME": "/xdg"}, "linux", "/xdg/aipc"),
        ({"XDG_DATA_HOME": "relative"}, "linux", "/home/me/.local/share/aipc"),
        ({"AIPC_HOME": ""}, "linux", "/home/me/.local/share/aipc"),
        ({"LOCALAPPDATA": "/appdata", "XDG_DATA_HOME": "/xdg"}, "win32", "/appdata/aipc"),
        ({}, "win32", "/home/me/AppData/Local/aipc"),
        ({"XDG_DATA_HOME": "/xdg"}, "darwin", "/home/me/Library/Application Support/aipc"),
    ],
)
def test_the_store_is_where_the_platform_keeps_data_unless_told(environ, platform, expected):
    assert store_root(environ=environ, platform=platform, home=Path("/home/me")) == Path(expected)


def test_a_relative_home_of_the_store_does_not_move_with_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_root(environ={"AIPC_HOME": "here"}) == tmp_path / "here"


def test_models_lie_in_their_own_directory_of_the_store(monkeypatch):
    monkeypatch.setenv("AIPC_HOME", "/data")
    assert models_directory() == Path("/data/models")


@pytest.mark.parametrize("home", ["", "  "])
def test_an_empty_home_of_the_store_counts_as_none(home):
    assert store_root(environ={"AIPC_HOME": home}, platform="linux", home=Path("/home/me")) == Path(
        "/home/me/.local/share/aipc"
    )


@pytest.mark.parametrize("home", ["~nosuchuser-here", "~nosuchuser-here/models"])
def test_a_home_of_the_store_in_an_unknown_accounts_home_is_named(home):
    with pytest.raises(StoreError, match=rf"AIPC_HOME.*\n?.*found {home}(?s:.*)try: "):
        store_root(environ={"AIPC_HOME": home})


def test_an_account_without_home_is_told_to_set_one(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(StoreError, match="AIPC_HOME"):
        store_root(environ={})
