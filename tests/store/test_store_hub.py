import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from local_hub import LocalHub, commit_of

from aipc.errors import AipcError, ConfigError, DiskSpaceError, DownloadError, WeightError
from aipc.store.hub import download
from aipc.store.hub_transfer import RESUMABLE_OVER_BYTES

HUB_ID = "tiny-org/Tiny-Phi-3"
BIG = random.Random(3).randbytes(RESUMABLE_OVER_BYTES + 1_234_567)
SMALL_FILES = {
    "config.json": b'{"model_type": "phi3"}',
    "generation_config.json": b"{}",
    "tokenizer.json": b'{"version": "1.0"}',
    "tokenizer_config.json": b"{}",
    "special_tokens_map.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}
UNWANTED = {
    ".gitattributes": b"x",
    "README.md": b"x",
    "modeling_phi3.py": b"raise SystemExit",
    "pytorch_model.bin": b"x",
    "consolidated.safetensors": b"x",
    "onnx/model.onnx": b"x",
    "model.gguf": b"x",
    "sub/model.safetensors": b"x",
}


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 64 * 1024)  # what a cut loses
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between huggingface_hub's own tries
    with LocalHub({HUB_ID: {**SMALL_FILES, **UNWANTED, "model.safetensors": BIG}}) as hub:
        yield hub


def get(hub: LocalHub, cache: Path, hub_id: str = HUB_ID, revision: str | None = None, **options):
    return download(hub_id, revision, cache_dir=cache, endpoint=hub.endpoint, **options)


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def user_agents(hub: LocalHub) -> list[str]:
    return [headers["user-agent"] for _, _, headers in hub.requests]


def test_only_what_a_conversion_reads_is_fetched(hub, tmp_path):
    directory, commit = get(hub, tmp_path)
    assert commit == commit_of(hub.repositories[HUB_ID])
    assert names(directory) == {*SMALL_FILES, "model.safetensors"}
    assert (directory / "model.safetensors").read_bytes() == BIG


def test_other_programs_find_the_files_in_the_cache(hub, tmp_path):
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    directory, _ = get(hub, tmp_path)
    found = try_to_load_from_cache(HUB_ID, "model.safetensors", cache_dir=tmp_path, revision="main")
    assert Path(found) == directory / "model.safetensors"
    assert Path(snapshot_download(HUB_ID, cache_dir=tmp_path, local_files_only=True)) == directory


def test_what_other_programs_fetched_is_not_fetched_again(hub, tmp_path):
    from huggingface_hub import snapshot_download

    snapshot_download(HUB_ID, cache_dir=tmp_path, endpoint=hub.endpoint)
    hub.requests.clear()
    get(hub, tmp_path)
    assert [path for _, path, _ in hub.requests] == [f"/api/models/{HUB_ID}/revision/main"]


def test_progress_counts_every_byte_once_and_ends_at_the_total(hub, tmp_path):
    steps = []
    get(hub, tmp_path, progress=lambda done, total: steps.append((done, total)))
    total = len(BIG) + sum(map(len, SMALL_FILES.values()))
    assert {step[1] for step in steps} == {total}
    assert [step[0] for step in steps] == sorted(step[0] for step in steps)
    assert steps[-1][0] == total
    steps.clear()
    get(hub, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (total, total)


def test_a_connection_cut_in_the_middle_goes_on_where_it_stopped(hub, tmp_path):
    hub.cut_after_bytes = [3_000_000]
    directory, _ = get(hub, tmp_path)
    first, second = hub.asked("/cdn/")
    assert "range" not in first
    assert 0 < int(second["range"].removeprefix("bytes=").rstrip("-")) <= 3_000_000
    assert (directory / "model.safetensors").read_bytes() == BIG


def test_a_download_interrupted_by_the_user_goes_on_in_the_next_run(hub, tmp_path):
    def interrupt(done: int, total: int) -> None:
        if done > 2_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(hub, tmp_path, progress=interrupt)
    hub.requests.clear()
    steps = []
    directory, _ = get(hub, tmp_path, progress=lambda done, total: steps.append((done, total)))
    (only,) = hub.asked("/cdn/")
    assert int(only["range"].removeprefix("bytes=").rstrip("-")) > 1_500_000
    assert (directory / "model.safetensors").read_bytes() == BIG
    assert steps[-1][0] == steps[-1][1]
    assert not list(tmp_path.rglob("*.incomplete"))


def test_a_server_that_ignores_the_range_gives_whole_files_all_the_same(hub, tmp_path):
    hub.cut_after_bytes = [3_000_000]
    hub.ignores_range = True
    steps = []
    directory, _ = get(hub, tmp_path, progress=lambda done, total: steps.append((done, total)))
    assert (directory / "model.safetensors").read_bytes() == BIG
    assert steps[-1][0] == steps[-1][1]


def test_a_partial_file_that_is_no_part_of_the_file_is_noticed_and_thrown_away(hub, tmp_path):
    import hashlib

    partial = tmp_path / "models--tiny-org--Tiny-Phi-3" / "blobs" / f"{hashlib.sha256(BIG).hexdigest()}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(1_000_000))
    with pytest.raises(DownloadError, match="came damaged"):
        get(hub, tmp_path)
    directory, _ = get(hub, tmp_path)
    assert (directory / "model.safetensors").read_bytes() == BIG


def test_bytes_that_change_on_the_way_never_enter_the_cache(hub, tmp_path):
    hub.damaged = True
    with pytest.raises(DownloadError, match="came damaged"):
        get(hub, tmp_path)
    assert not list(tmp_path.rglob("model.safetensors"))


def test_without_symbolic_links_the_weights_take_their_room_once(hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True, raising=False)
    monkeypatch.setattr("huggingface_hub.file_download.are_symlinks_supported", lambda cache_dir=None: False)
    directory, _ = get(hub, tmp_path)
    assert (directory / "model.safetensors").read_bytes() == BIG
    assert not (directory / "model.safetensors").is_symlink()
    assert sum(path.stat().st_size > 1_000_000 for path in tmp_path.rglob("*")) == 1


def test_the_index_decides_which_shards_are_fetched(hub, tmp_path):
    shards = {"model-00001-of-00002.safetensors": b"one", "model-00002-of-00002.safetensors": b"two"}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    hub.repositories[HUB_ID] = {
        **SMALL_FILES,
        **shards,
        "model.safetensors.index.json": json.dumps(index).encode(),
        "extra.safetensors": b"x",
    }
    directory, _ = get(hub, tmp_path)
    assert names(directory) == {*SMALL_FILES, *shards, "model.safetensors.index.json"}


BAD_INDEXES = [
    b"{",
    b"[]",
    b'{"weight_map": 1}',
    b'{"weight_map": {"a": ["x"]}}',
    b'{"weight_map": {"a": "../../evil.safetensors"}}',
    b'{"weight_map": {"a": "gone.safetensors"}}',
    b'{"weight_map": {"a": "pytorch_model.bin"}}',
]


@pytest.mark.parametrize("index", BAD_INDEXES)
def test_a_bad_index_is_refused_before_weights_are_fetched(hub, tmp_path, index):
    hub.repositories[HUB_ID]["model.safetensors.index.json"] = index
    with pytest.raises(WeightError, match=r"model\.safetensors\.index\.json"):
        get(hub, tmp_path)
    assert not hub.asked("/cdn/")


def test_a_repository_without_safetensors_is_refused_with_the_reason_before_any_download(hub, tmp_path):
    hub.repositories[HUB_ID] = {**SMALL_FILES, "pytorch_model.bin": BIG}
    with pytest.raises(WeightError, match=r"pytorch_model\.bin") as caught:
        get(hub, tmp_path)
    assert "run code" in str(caught.value)
    assert not hub.asked("/resolve/") and not hub.asked("/cdn/")


def test_a_repository_without_config_is_no_checkpoint(hub, tmp_path):
    hub.repositories[HUB_ID] = {"model.safetensors": b"x"}
    with pytest.raises(ConfigError, match=r"config\.json"):
        get(hub, tmp_path)


def test_a_disk_too_full_is_refused_before_weights_are_fetched(hub, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(DiskSpaceError, match="1,000 bytes free"):
        get(hub, tmp_path)
    assert not hub.asked("/cdn/")


def test_a_repository_that_is_not_there_says_to_check_the_spelling(hub, tmp_path):
    with pytest.raises(DownloadError, match=r"check the spelling at .*/tiny-org/Tinny"):
        get(hub, tmp_path, "tiny-org/Tinny")


def test_a_gated_repository_says_where_to_agree_and_how_to_log_in(hub, tmp_path):
    hub.gated.add(HUB_ID)
    with pytest.raises(DownloadError, match=r"(?s)gated.*hf auth login"):
        get(hub, tmp_path)


def test_an_unknown_revision_is_named(hub, tmp_path):
    with pytest.raises(DownloadError, match="no revision v9"):
        get(hub, tmp_path, revision="v9")


@pytest.mark.parametrize("revision", ["../../x", "/etc", "a/../b", "x\n", "a/", "-r"])
def test_a_revision_that_would_leave_the_cache_is_refused(hub, tmp_path, revision):
    with pytest.raises(DownloadError, match="is no revision"):
        get(hub, tmp_path, revision=revision)
    assert not hub.requests


@pytest.mark.parametrize("hub_id", ["a/b/c", "../x", "a b/c", "", "a--b/c"])
def test_an_impossible_hub_id_is_refused_without_asking(hub, tmp_path, hub_id):
    with pytest.raises(DownloadError, match="is no hub id"):
        get(hub, tmp_path, hub_id)
    assert not hub.requests


def test_a_token_goes_to_the_hub_and_never_to_its_storage(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(hub, tmp_path)
    assert all("hf_secret" in headers["authorization"] for headers in hub.asked("/api/"))
    assert hub.asked("/cdn/") and not any("authorization" in headers for headers in hub.asked("/cdn/"))


@pytest.mark.parametrize("trouble", ["stopped", "status 503"])
def test_a_hub_that_does_not_answer_leaves_a_complete_cached_checkpoint_usable(hub, tmp_path, trouble):
    there = get(hub, tmp_path)
    if trouble == "stopped":
        hub.stop()
        hub._server = _Nothing()
    else:
        hub.status = 503
    assert get(hub, tmp_path) == there


def test_a_hub_that_does_not_answer_is_an_error_when_the_cache_is_incomplete(hub, tmp_path):
    directory, _ = get(hub, tmp_path)
    (directory / "model.safetensors").unlink()
    hub.status = 503
    with pytest.raises(DownloadError, match=r"(?s)503.*run this again"):
        get(hub, tmp_path)


def test_an_unreachable_hub_names_the_address_and_the_proxy_setting(tmp_path):
    with pytest.raises(DownloadError, match=r"(?s)127\.0\.0\.1:9/.*HTTPS_PROXY"):
        download(HUB_ID, cache_dir=tmp_path, endpoint="http://127.0.0.1:9")


def test_a_commit_that_is_in_the_cache_needs_no_request(hub, tmp_path):
    directory, commit = get(hub, tmp_path)
    hub.requests.clear()
    assert get(hub, tmp_path, revision=commit) == (directory, commit)
    assert not hub.requests


def test_the_hubs_environment_variables_are_respected_and_telemetry_is_off(hub, tmp_path):
    script = (
        "import sys; from aipc.errors import AipcError; from aipc.store.hub import download\n"
        f"try: print(download({HUB_ID!r}))\n"
        "except AipcError as error: print(error); sys.exit(7)\n"
        "from huggingface_hub import constants; assert constants.HF_HUB_DISABLE_TELEMETRY"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.endpoint}

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script], env={**environment, **more}, capture_output=True, text=True, timeout=60
        )

    refused = run(HF_HUB_OFFLINE="1")
    assert refused.returncode == 7 and "HF_HUB_OFFLINE" in refused.stdout and not hub.requests
    online = run()
    assert online.returncode == 0 and online.stderr == "", online
    assert str(tmp_path) in online.stdout
    assert not any("torch/" in agent or "agent/" in agent for agent in user_agents(hub))
    hub.requests.clear()
    assert run(HF_HUB_OFFLINE="1").stdout == online.stdout
    assert not hub.requests


def test_every_error_of_the_hub_is_one_of_aipcs_own(hub, tmp_path):
    for status in (400, 401, 403, 404, 418, 429, 500):
        hub.status = status
        with pytest.raises(AipcError):
            get(hub, tmp_path)


class _Nothing:
    def shutdown(self) -> None: ...

    def server_close(self) -> None: ...


def test_a_cache_in_an_unknown_accounts_home_is_named(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "~nosuchuser-here/hub")
    with pytest.raises(DownloadError, match=r"(?s)found ~nosuchuser-here/hub\ntry: set HF_HOME"):
        download(HUB_ID)


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_network(hub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"(?s)file.* cannot be read or written: .*\ntry: set HF_HOME"):
        get(hub, tmp_path / "file" / "cache")
