"""Checkpoints read as the safetensors library reads them, and refused with the reason when they lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_checkpoint import random_weights, write_checkpoint, write_weights

from aipc.checkpoint import INDEX_NAME, SINGLE_NAME, Checkpoint
from aipc.errors import CheckpointError, ConfigError, WeightError
from aipc.graph import Weight

QKV = Weight("model.layers.0.self_attn.qkv_proj.weight", (384, 128))


@pytest.fixture
def checkpoint_dir(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint", tokenizer=False)


@pytest.mark.parametrize("shards", [1, 3])
def test_every_row_equals_what_the_safetensors_library_reads(tmp_path: Path, shards: int) -> None:
    directory = write_checkpoint(tmp_path / "c", dtype="F32", shards=shards, tokenizer=False)
    theirs = {name: value for file in directory.glob("*.safetensors") for name, value in load_file(file).items()}
    with Checkpoint(directory) as checkpoint:
        assert set(checkpoint.weights) == set(theirs)
        for name, values in theirs.items():
            ours = checkpoint.rows(Weight(name, values.shape)).float32()
            np.testing.assert_array_equal(ours.reshape(values.shape), values)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_a_window_of_rows_is_the_same_in_every_dtype(tmp_path: Path, dtype: str) -> None:
    directory = write_checkpoint(tmp_path / "c", dtype=dtype, tokenizer=False)
    expected = random_weights(directory)[QKV.name]
    with Checkpoint(directory) as checkpoint:
        rows = checkpoint.rows(QKV, 100, 107).float32()
    np.testing.assert_allclose(rows, expected[100:107], rtol=2**-7 if dtype == "BF16" else 2**-10)


def test_a_window_outlives_the_checkpoint(checkpoint_dir: Path) -> None:
    with Checkpoint(checkpoint_dir) as checkpoint:
        rows = checkpoint.rows(QKV)
    assert np.isfinite(rows.float32()).all()


def test_a_missing_weight_and_a_wrong_shape_are_named(checkpoint_dir: Path) -> None:
    with Checkpoint(checkpoint_dir) as checkpoint:
        with pytest.raises(WeightError, match=r"model\.layers\.9.*no such weight"):
            checkpoint.stored(Weight("model.layers.9.self_attn.qkv_proj.weight", (384, 128)))
        with pytest.raises(WeightError, match=r"qkv_proj.*\[999, 128\].*\[384, 128\]"):
            checkpoint.stored(Weight(QKV.name, (999, 128)))


def test_an_integer_weight_is_refused_as_already_quantised(tmp_path: Path, checkpoint_dir: Path) -> None:
    from safetensors.numpy import save_file

    save_file({QKV.name: np.zeros((384, 128), np.int32)}, checkpoint_dir / SINGLE_NAME)
    with Checkpoint(checkpoint_dir) as checkpoint, pytest.raises(WeightError, match=r"F32, F16 or BF16.*I32"):
        checkpoint.stored(QKV)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 5000, -1])
def test_a_truncated_file_is_refused_at_once(checkpoint_dir: Path, keep: int) -> None:
    file = checkpoint_dir / SINGLE_NAME
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(WeightError, match=SINGLE_NAME):
        Checkpoint(checkpoint_dir)


@pytest.mark.parametrize("byte", [0, 3, 7, 9, 40])
def test_a_flipped_header_byte_never_gives_other_weights(checkpoint_dir: Path, byte: int) -> None:
    file = checkpoint_dir / SINGLE_NAME
    data = bytearray(file.read_bytes())
    data[byte] ^= 0x55
    file.write_bytes(data)
    with pytest.raises(WeightError):
        Checkpoint(checkpoint_dir).stored(QKV)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "c", shards=2, tokenizer=False)
    (directory / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightError, match=r"model-00002-of-00002\.safetensors: no such file"):
        Checkpoint(directory)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "C:\\x.safetensors",
        "NUL.safetensors",
        7,
        "..",
    ],
)
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, name: object) -> None:
    directory = write_checkpoint(tmp_path / "c", shards=2, tokenizer=False)
    index = directory / INDEX_NAME
    document = json.loads(index.read_text(encoding="utf-8"))
    document["weight_map"][QKV.name] = name
    index.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises((WeightError, ConfigError), match="index"):
        Checkpoint(directory)


def test_an_index_that_names_the_wrong_shard_is_refused(tmp_path: Path) -> None:
    directory = write_checkpoint(tmp_path / "c", shards=2, tokenizer=False)
    index = directory / INDEX_NAME
    document = json.loads(index.read_text(encoding="utf-8"))
    files = sorted(set(document["weight_map"].values()))
    here = document["weight_map"][QKV.name]
    document["weight_map"][QKV.name] = next(file for file in files if file != here)
    index.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(WeightError, match="no such weight there"):
        Checkpoint(directory)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused_with_the_reason(checkpoint_dir: Path, name: str) -> None:
    (checkpoint_dir / SINGLE_NAME).rename(checkpoint_dir / name)
    with pytest.raises(CheckpointError, match="pickle, which can run any code"):
        Checkpoint(checkpoint_dir)


def test_python_files_beside_the_weights_are_never_imported(checkpoint_dir: Path) -> None:
    (checkpoint_dir / "modeling_phi3.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    config = json.loads((checkpoint_dir / "config.json").read_text(encoding="utf-8"))
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}
    (checkpoint_dir / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with Checkpoint(checkpoint_dir) as checkpoint:
        assert checkpoint.size_bytes > 0


def test_nan_in_the_weights_is_left_to_the_quantiser(checkpoint_dir: Path) -> None:
    weights = random_weights(checkpoint_dir)
    weights[QKV.name][5, 5] = np.nan
    write_weights(checkpoint_dir, weights)
    with Checkpoint(checkpoint_dir) as checkpoint:
        extremes = np.stack(checkpoint.rows(QKV).extremes(128))
        assert not np.isfinite(extremes).all()
