from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.devices import NotAvailable
from aipc.engines import Sampling, Step
from aipc.engines.fake import FakeSession
from aipc.monitor.statistics import Spread, Statistics, from_steps, percentile

UNKNOWN = NotAvailable("a test")
TIMES = st.floats(min_value=0, max_value=1e6)


def statistics(times: list[float], *, device: str = "CPU", **changes: object) -> Statistics:
    facts = {
        "started_s": 10.0,
        "prompt_tokens": 100,
        "load_s": 0.5,
        "peak_memory_bytes": 2_000_000_000,
        "bytes_per_token": 1_000_000_000,
        "memory_bandwidth_bytes_per_s": 4e10,
        **changes,
    }
    return from_steps([Step(1, time) for time in times], FakeSession([1], device=device), **facts)


def test_known_times_give_known_speeds() -> None:
    answer = statistics([12.0, 12.1, 12.2, 12.3, 12.5])
    assert answer.time_to_first_token_s == 2.0
    assert answer.prefill_tokens_per_s == 50
    assert answer.decode_tokens_per_s == pytest.approx(8)
    assert isinstance(answer.time_per_output_token_ms, Spread)
    assert answer.time_per_output_token_ms.median == pytest.approx(100)
    assert answer.bandwidth_share == pytest.approx(0.2)


def test_a_prompt_that_a_cache_may_have_held_has_no_prefill_speed() -> None:
    answer = statistics([12.0, 12.1], may_reuse=True)
    assert isinstance(answer.prefill_tokens_per_s, NotAvailable)
    assert answer.time_to_first_token_s == 2.0
    assert "prefill n/a (it began as an earlier prompt)," in str(answer)


def test_one_token_has_no_decode_speed() -> None:
    answer = statistics([12.0])
    assert answer.time_to_first_token_s == 2.0
    for value in (answer.decode_tokens_per_s, answer.time_per_output_token_ms, answer.bandwidth_share):
        assert isinstance(value, NotAvailable)


def test_no_token_has_no_times_at_all() -> None:
    answer = statistics([])
    assert answer.generated_tokens == 0
    assert isinstance(answer.time_to_first_token_s, NotAvailable)
    assert isinstance(answer.prefill_tokens_per_s, NotAvailable)


def test_a_clock_that_stands_still_gives_no_infinite_speed() -> None:
    answer = statistics([10.0, 10.0, 10.0])
    assert isinstance(answer.prefill_tokens_per_s, NotAvailable)
    assert isinstance(answer.decode_tokens_per_s, NotAvailable)


@pytest.mark.parametrize("missing", ["bytes_per_token", "memory_bandwidth_bytes_per_s"])
def test_the_bandwidth_share_needs_both_its_parts(missing: str) -> None:
    assert statistics([12.0, 12.1], **{missing: UNKNOWN}).bandwidth_share == UNKNOWN


@pytest.mark.parametrize("device", ["GPU", "GPU.1", "NPU"])
def test_another_device_has_no_share_of_the_cpus_bandwidth(device: str) -> None:
    share = statistics([12.0, 12.1], device=device).bandwidth_share
    assert isinstance(share, NotAvailable)
    assert "CPU" in share.reason


def test_json_has_null_for_what_is_not_available_and_never_zero() -> None:
    answer = statistics([12.0], peak_memory_bytes=UNKNOWN)
    fields = json.loads(json.dumps(answer.to_json()))
    absent = {key for key, value in fields.items() if value is None}
    assert absent == {
        "peak_memory_bytes",
        "decode_tokens_per_s",
        "time_per_output_token_ms_median",
        "time_per_output_token_ms_p5",
        "time_per_output_token_ms_p95",
        "bandwidth_share",
        "device_choice",
    }
    assert fields["device"] == "CPU"


def test_json_has_the_same_keys_whatever_is_known() -> None:
    assert statistics([]).to_json().keys() == statistics([11.0, 12.0, 13.0]).to_json().keys()


def test_the_text_is_three_short_lines_with_na_for_what_is_missing() -> None:
    for answer in (statistics([]), statistics([12.0, 12.1, 12.2], peak_memory_bytes=UNKNOWN)):
        lines = str(answer).splitlines()
        assert len(lines) == 3
        assert max(map(len, lines)) <= 120
        assert "n/a" in str(answer)
    assert "n/a" not in str(statistics([12.0, 12.1, 12.2]))
    assert "decode 10.0 tokens/s" in str(statistics([12.0, 12.1, 12.2]))


@given(values=st.lists(TIMES, min_size=1, max_size=60), percent=st.sampled_from([0, 5, 50, 95, 100]))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(sorted(values), percent) == pytest.approx(float(np.percentile(values, percent)), abs=1e-6)


def test_a_real_stream_gives_its_own_speed() -> None:
    session = FakeSession([1, 2, 3, 4], token_s=0.02)
    steps = list(session.stream([1, 2], Sampling()))
    answer = from_steps(
        steps,
        session,
        started_s=steps[0].time_s - 0.1,
        prompt_tokens=2,
        load_s=UNKNOWN,
        peak_memory_bytes=UNKNOWN,
        bytes_per_token=UNKNOWN,
        memory_bandwidth_bytes_per_s=UNKNOWN,
    )
    assert isinstance(answer.decode_tokens_per_s, float)
    assert 5 < answer.decode_tokens_per_s <= 50
