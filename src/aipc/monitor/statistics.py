"""What an answer cost, in numbers that can be compared between devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

from aipc.devices.known import NotAvailable
from aipc.engines import Session, Step

TOO_FEW = NotAvailable("fewer than two tokens were generated")
NO_TOKEN = NotAvailable("no token was generated")
REUSED = NotAvailable("the engine may have computed a part of the prompt before")
NOT_THE_CPU = NotAvailable("the bandwidth was measured by the CPU, and the model ran elsewhere")


@dataclass(frozen=True)
class Spread:
    """Median and tails of one quantity, by linear interpolation between the sorted values."""

    median: float
    p5: float
    p95: float


@dataclass(frozen=True)
class Statistics:
    """One answer. Times are in the units their names end in; what cannot be known is `NotAvailable`, never zero.

    `prefill_tokens_per_s` is the prompt's tokens by the time to the first token, and not available for a prompt of
    which a prefix cache may have saved a part. `decode_tokens_per_s` is of the tokens after the first one.
    `bytes_per_token` is what decoding one token reads (weights and KV cache), and `bandwidth_share` the share of
    `memory_bandwidth_bytes_per_s` that it makes; that bandwidth is the CPU's, so other devices have no share. A
    `rehearsal` of the NPU's pipeline on another device, which `device` says too, is no measurement of the NPU.
    `device_choice` is why `--device auto` took the device, None where it was named.
    """

    engine: str
    device: str
    device_name: str
    rehearsal: bool
    prompt_tokens: int
    generated_tokens: int
    load_s: float | NotAvailable
    time_to_first_token_s: float | NotAvailable
    prefill_tokens_per_s: float | NotAvailable
    decode_tokens_per_s: float | NotAvailable
    time_per_output_token_ms: Spread | NotAvailable
    peak_memory_bytes: int | NotAvailable
    bytes_per_token: int | NotAvailable
    memory_bandwidth_bytes_per_s: float | NotAvailable
    bandwidth_share: float | NotAvailable
    device_choice: str | None = None

    def to_json(self) -> dict[str, object]:
        """The fields, for `json.dumps`; the token times in three keys of their own, null for what is not available."""
        fields = {key: None if isinstance(value, NotAvailable) else value for key, value in vars(self).items()}
        spread = fields.pop("time_per_output_token_ms")
        times = asdict(spread) if isinstance(spread, Spread) else {"median": None, "p5": None, "p95": None}
        return {**fields, **{f"time_per_output_token_ms_{name}": value for name, value in times.items()}}

    def __str__(self) -> str:
        """Three lines for a person."""
        return "\n".join((self._where(), self._speed(), self._memory()))

    def _where(self) -> str:
        tokens = f"{self.prompt_tokens} + {self.generated_tokens} tokens"
        return (
            f"{self.device} ({self.device_name}) by {self.engine}: {tokens}, loaded in {_number(self.load_s, 's', 2)}"
        )

    def _speed(self) -> str:
        first = f"first token {_number(self.time_to_first_token_s, 's', 2)}"
        prefill = f"prefill {_number(self.prefill_tokens_per_s, 'tokens/s', 0)}"
        if self.prefill_tokens_per_s is REUSED:
            prefill += " (it began as an earlier prompt)"
        decode = f"decode {_number(self.decode_tokens_per_s, 'tokens/s', 1)}"
        spread = self.time_per_output_token_ms
        if isinstance(spread, Spread):
            decode += f" ({spread.median:.1f} ms per token, {spread.p5:.1f} to {spread.p95:.1f})"
        return f"{first}, {prefill}, {decode}"

    def _memory(self) -> str:
        peak = f"peak memory {_number(self.peak_memory_bytes, 'MB', 0, per=1e6)}"
        if isinstance(self.bytes_per_token, NotAvailable):
            return f"{peak}, bytes read per token n/a"
        read = f"{_number(self.bytes_per_token, 'MB', 0, per=1e6)} read per token"
        share = _number(self.bandwidth_share, "%", 0, per=0.01)
        limit = _number(self.memory_bandwidth_bytes_per_s, "GB/s", 1, per=1e9)
        return f"{peak}, {read}: {share} of the memory's {limit}"


def _number(value: float | NotAvailable, unit: str, digits: int, *, per: float = 1.0) -> str:
    return "n/a" if isinstance(value, NotAvailable) else f"{value / per:.{digits}f} {unit}"


def from_steps(
    steps: Sequence[Step],
    session: Session,
    *,
    started_s: float,
    prompt_tokens: int,
    may_reuse: bool = False,
    load_s: float | NotAvailable,
    peak_memory_bytes: int | NotAvailable,
    bytes_per_token: int | NotAvailable,
    memory_bandwidth_bytes_per_s: float | NotAvailable,
    device_choice: str | None = None,
) -> Statistics:
    """The statistics of an answer whose request was made at `started_s` by `time.perf_counter()`.

    `may_reuse` says that the engine may have had a part of the prompt in its cache.
    """
    first_s = steps[0].time_s - started_s if steps else NO_TOKEN
    decode = _decode_tokens_per_s(steps)
    return Statistics(
        engine=session.engine,
        device=session.device,
        device_name=session.device_name,
        rehearsal=session.is_rehearsal,
        prompt_tokens=prompt_tokens,
        generated_tokens=len(steps),
        load_s=load_s,
        time_to_first_token_s=first_s,
        prefill_tokens_per_s=REUSED if may_reuse else _quotient(prompt_tokens, first_s),
        decode_tokens_per_s=decode,
        time_per_output_token_ms=token_times_ms(steps),
        peak_memory_bytes=peak_memory_bytes,
        bytes_per_token=bytes_per_token,
        memory_bandwidth_bytes_per_s=memory_bandwidth_bytes_per_s,
        bandwidth_share=(
            _bandwidth_share(bytes_per_token, decode, memory_bandwidth_bytes_per_s)
            if session.device == "CPU"
            else NOT_THE_CPU
        ),
        device_choice=device_choice,
    )


def _decode_tokens_per_s(steps: Sequence[Step]) -> float | NotAvailable:
    if len(steps) < 2:
        return TOO_FEW
    return _quotient(len(steps) - 1, steps[-1].time_s - steps[0].time_s)


def _quotient(count: float, seconds: float | NotAvailable) -> float | NotAvailable:
    if isinstance(seconds, NotAvailable):
        return seconds
    return count / seconds if seconds > 0 else NotAvailable("the clock did not advance")


def token_times_ms(steps: Sequence[Step]) -> Spread | NotAvailable:
    """The times from each token to the next."""
    if len(steps) < 2:
        return TOO_FEW
    times_ms = sorted((after.time_s - before.time_s) * 1e3 for before, after in pairwise(steps))
    return Spread(median=percentile(times_ms, 50), p5=percentile(times_ms, 5), p95=percentile(times_ms, 95))


def percentile(ordered: Sequence[float], percent: float) -> float:
    """As `numpy.percentile` of its default method; `ordered` is sorted and not empty."""
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def _bandwidth_share(
    bytes_per_token: int | NotAvailable, decode: float | NotAvailable, bandwidth: float | NotAvailable
) -> float | NotAvailable:
    if isinstance(bytes_per_token, NotAvailable):
        return bytes_per_token
    if isinstance(decode, NotAvailable):
        return decode
    return bandwidth if isinstance(bandwidth, NotAvailable) else bytes_per_token * decode / bandwidth
