from __future__ import annotations

import json
from pathlib import Path

import pytest

from aipc.config import ConfigFile
from aipc.errors import ConfigError


def config(tmp_path: Path, text: str) -> ConfigFile:
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    return ConfigFile.load(file)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '"x"', "[" * 100_000])
def test_what_is_no_json_object_is_refused_naming_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"config\.json.*JSON object"):
        config(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: no such file"):
        ConfigFile.load(tmp_path / "config.json")


@pytest.mark.parametrize("value", ["3", 0, -1, 1.5, True, [], {}])
def test_a_count_of_another_kind_names_key_expected_and_found(tmp_path: Path, value: object) -> None:
    file = config(tmp_path, json.dumps({"hidden_size": value}))
    with pytest.raises(ConfigError) as error:
        file.count("hidden_size")
    for part in ("config.json: hidden_size", "a whole number above 0", json.dumps(value)):
        assert part in str(error.value)


def test_null_counts_as_missing(tmp_path: Path) -> None:
    file = config(tmp_path, '{"sliding_window": null}')
    assert file.optional_count("sliding_window") is None
    with pytest.raises(ConfigError, match="null"):
        file.count("sliding_window")


def test_a_nested_key_is_named_with_its_path(tmp_path: Path) -> None:
    section = config(tmp_path, '{"rope_scaling": {"short_factor": [1, "x"]}}').section("rope_scaling")
    assert section is not None
    with pytest.raises(ConfigError, match=r"rope_scaling\.short_factor.*'x'"):
        section.numbers("short_factor", length=2)
    with pytest.raises(ConfigError, match=r"rope_scaling\.long_factor.*no such key"):
        section.numbers("long_factor", length=2)


def test_a_key_that_stands_twice_is_refused_for_programs_take_different_ones(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"a": {"b": 1, "c": 2, "b": 3}}', encoding="utf-8")
    with pytest.raises(ConfigError, match="'b' twice"):
        ConfigFile.load(file)
