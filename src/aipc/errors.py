"""Everything aipc raises on purpose, one leaf per kind of trouble.

AipcError                     exit  HTTP  OpenAI code
├── UsageError                2     400   invalid_request_error
│   ├── RecipeError           2     400   invalid_recipe
│   ├── EmptyPromptError      2     400   empty_prompt
│   └── ContextLengthError    2     400   context_length_exceeded
├── CheckpointError           1     422   invalid_checkpoint
│   ├── ConfigError           1     422   invalid_config
│   ├── WeightError           1     422   invalid_weight
│   └── UnsupportedModelError 1     422   unsupported_model
├── TemplateError             1     422   invalid_chat_template
├── StoreError                1     500   store_error
│   ├── ModelNotFoundError    1     404   model_not_found
│   ├── IntegrityError        1     500   model_corrupt
│   ├── DiskSpaceError        1     507   insufficient_storage
│   └── StoreBusyError        1     409   store_busy
├── DownloadError             1     502   download_failed
├── DeviceError               1     503   device_unavailable
├── EngineError               1     500   engine_error
└── MissingPackageError       1     501   missing_package

A message says what failed and on which thing, what was expected and what was found, and what to type next.
"""

from __future__ import annotations

from typing import ClassVar


class AipcError(Exception):
    """`what` failed; `expected` and `found` when they are known; `try_next` is what the reader can do or type.

    Shown as `what: expected …, found …` and, on a line of its own, `try: …`.
    """

    exit_code: ClassVar[int] = 1
    http_status: ClassVar[int] = 500
    openai_code: ClassVar[str] = "server_error"

    def __init__(
        self, what: str, *, expected: object = None, found: object = None, try_next: str | None = None
    ) -> None:
        self.what = what
        self.expected = expected
        self.found = found
        self.try_next = try_next
        super().__init__(self._message())

    def _message(self) -> str:
        facts = []
        if self.expected is not None:
            facts.append(f"expected {self.expected}")
        if self.found is not None:
            facts.append(f"found {self.found}")
        message = f"{self.what}: {', '.join(facts)}" if facts else self.what
        return f"{message}\ntry: {self.try_next}" if self.try_next else message


class UsageError(AipcError):
    """The request itself cannot be carried out as it was typed."""

    exit_code = 2
    http_status = 400
    openai_code = "invalid_request_error"


class RecipeError(UsageError):
    """A quantisation recipe contradicts itself or does not fit the weights."""

    openai_code = "invalid_recipe"


class EmptyPromptError(UsageError):
    """There is nothing to answer."""

    openai_code = "empty_prompt"


class ContextLengthError(UsageError):
    """Prompt and answer together do not fit the model's context."""

    openai_code = "context_length_exceeded"


class CheckpointError(AipcError):
    """A Hugging Face checkpoint cannot be read."""

    http_status = 422
    openai_code = "invalid_checkpoint"


class ConfigError(CheckpointError):
    """A key of a checkpoint's JSON file is missing or has a wrong type or value."""

    openai_code = "invalid_config"


class WeightError(CheckpointError):
    """A weight is missing, truncated, or has an unexpected dtype, shape or value."""

    openai_code = "invalid_weight"


class UnsupportedModelError(CheckpointError):
    """The checkpoint's `model_type` has no architecture file here."""

    openai_code = "unsupported_model"


class TemplateError(AipcError):
    """A chat template failed, or went past its bounds on time or size."""

    http_status = 422
    openai_code = "invalid_chat_template"


class StoreError(AipcError):
    """The model store, or a model's directory, cannot be read or written."""

    openai_code = "store_error"


class ModelNotFoundError(StoreError):
    """A name is no path, no stored model and no hub id."""

    http_status = 404
    openai_code = "model_not_found"


class IntegrityError(StoreError):
    """A model's files are not the ones its manifest records."""

    openai_code = "model_corrupt"


class DiskSpaceError(StoreError):
    """The disk has not enough room for what would be written."""

    http_status = 507
    openai_code = "insufficient_storage"


class StoreBusyError(StoreError):
    """Another process is writing the same model."""

    http_status = 409
    openai_code = "store_busy"


class DownloadError(AipcError):
    """A file could not be fetched from the Hugging Face hub."""

    http_status = 502
    openai_code = "download_failed"


class DeviceError(AipcError):
    """The device asked for is not there or cannot run the model."""

    http_status = 503
    openai_code = "device_unavailable"


class EngineError(AipcError):
    """An engine failed while loading or running a model."""

    openai_code = "engine_error"


class MissingPackageError(AipcError):
    """An optional package is not installed."""

    http_status = 501
    openai_code = "missing_package"
