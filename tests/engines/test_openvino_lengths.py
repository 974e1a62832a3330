"""The lengths of the NPU's static pipeline."""

from __future__ import annotations

import pytest

from aipc.engines.openvino_lengths import (
    StaticLengths,
    lengths_for_conversation,
    lengths_for_request,
    static_lengths,
)
from aipc.engines.openvino_rehearsal import REHEARSAL, parts_elsewhere, shown_device, stand_in, with_rehearsal
from aipc.errors import UsageError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, StaticLengths(1024, 128)),
        ({"MAX_PROMPT_LEN": "100", "MIN_RESPONSE_LEN": "10"}, StaticLengths(128, 64)),
        ({"MAX_PROMPT_LEN": "1025"}, StaticLengths(2048, 128, 1024)),
        ({"MAX_PROMPT_LEN": "1025", "PREFILL_HINT": "STATIC"}, StaticLengths(1088, 128)),
        ({"MAX_PROMPT_LEN": "300", "NPUW_LLM_PREFILL_CHUNK_SIZE": "256"}, StaticLengths(512, 128, 256)),
    ],
)
def test_lengths_are_rounded_as_the_plugin_rounds_them(given: dict[str, str], expected: StaticLengths) -> None:
    assert static_lengths(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"MAX_PROMPT_LEN": "long"},
        {"MIN_RESPONSE_LEN": "0"},
        {"MIN_RESPONSE_LEN": "9" * 5000},
        {"NPUW_LLM_PREFILL_CHUNK_SIZE": "300"},
    ],
)
def test_what_is_no_length_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        static_lengths({"MAX_PROMPT_LEN": "2048", **given})


def chosen(prompt: int, answer: int | None, context: int = 4096) -> tuple[int, int]:
    lengths = static_lengths(lengths_for_request(prompt, answer, context_tokens=context))
    return lengths.prompt_tokens, lengths.response_tokens


def test_slightly_longer_prompts_share_a_compiled_model() -> None:
    assert {chosen(prompt, None) for prompt in (1, 100, 256)} == {(256, 512)}
    assert chosen(257, 100) == (512, 128)
    assert chosen(1100, 1100) == (2048, 2048)


def test_every_request_that_fits_the_context_fits_the_lengths() -> None:
    for context in (100, 512, 2048, 4096):
        for prompt in (1, 63, 64, 257, 500, 1100, 2047, 4000, 4095):
            for answer in (1, 100, 1000, None):
                if prompt + (answer or 1) <= context:
                    longest, response = chosen(prompt, answer, context)
                    assert prompt <= longest
                    assert prompt + (answer or 1) <= longest + response


def test_a_conversation_gets_the_context_as_far_as_memory_goes() -> None:
    def conversation(context: int, *, free_gib: float = 16) -> tuple[str, ...]:
        phi3_mini = 2 * 32 * 3072 * 2  # bytes of keys and values a token
        found = lengths_for_conversation(
            context_tokens=context, kv_bytes_per_token=phi3_mini, available_bytes=int(free_gib * 2**30)
        )
        return tuple(found.values())

    assert conversation(4096) == ("4096", "64")
    assert conversation(131072) == ("4096", "512")
    assert conversation(300) == ("512", "64")
    assert conversation(4096, free_gib=4) == ("2048", "512")
    assert conversation(4096, free_gib=0.1) == ("1024", "512")


@pytest.mark.parametrize(
    ("lengths", "usable"),
    [
        (StaticLengths(2048, 128, 1024), 100),  # its first chunks would get the short factors
        (StaticLengths(64, 64), 100),  # the prompt cannot be read anew past the switch
        (StaticLengths(128, 64), 192),
    ],
)
def test_longrope_stays_within_its_original_context_unless_it_can_be_read_anew(
    lengths: StaticLengths, usable: int
) -> None:
    assert lengths.usable_tokens(4096, 100) == usable
    assert lengths.usable_tokens(4096, None) == lengths.context_tokens


def test_only_what_ran_on_the_npu_is_called_npu() -> None:
    assert with_rehearsal({"A": "1"}, "npu", rehearse=True) == {**REHEARSAL, "A": "1"}
    assert shown_device("NPU", REHEARSAL) == "NPU rehearsal on the CPU"
    assert shown_device("NPU", {}) == "NPU"
    assert stand_in("NPU", {"NPUW_DEVICES": "NPU,CPU"}) is None
    assert stand_in("CPU", REHEARSAL) is None
    for device in ("cpu", None, "gpu"):
        with pytest.raises(UsageError, match="--device npu --rehearse"):
            with_rehearsal({}, device, rehearse=True)
    assert with_rehearsal({}, None, rehearse=False) == {}
    with pytest.raises(UsageError, match="found 'NPU'\ntry: leave NPUW_DEVICES out"):
        with_rehearsal({"NPUW_DEVICES": "NPU"}, "npu", rehearse=True)


@pytest.mark.parametrize(
    ("properties", "elsewhere"),
    [
        ({}, False),
        ({"NPUW_DEVICES": "NPU"}, False),
        ({"NPUW_SUBMODEL_DEVICE": "0:NPU,last:NPU"}, False),
        ({"NPUW_DEVICES": "npu, cpu"}, True),
        ({"NPUW_SUBMODEL_DEVICE": "0:NPU,last:CPU"}, True),
        (REHEARSAL, True),
    ],
)
def test_a_property_that_may_place_parts_elsewhere_is_known(properties: dict[str, str], elsewhere: bool) -> None:
    assert (parts_elsewhere(properties) is not None) == elsewhere


@pytest.mark.parametrize("name", ["MAX_PROMPT_LEN", "MIN_RESPONSE_LEN"])
def test_the_plugins_own_name_of_a_length_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"property NPUW_LLM_{name}: expected {name}\ntry: --ov-config {name}="):
        static_lengths({f"NPUW_LLM_{name}": "64"})
