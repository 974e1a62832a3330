"""A Jinja environment in which a template can neither run code, nor run long, nor make large values.

Jinja's immutable sandbox keeps a template from Python's internals. It does not stop a million nested iterations,
`'x' * 10**9`, or a list that holds itself twice, forty times over. Here every loop iteration, call, filter and
attribute looks at the clock, and every new value is measured before a template can use it again. So each single
step works on bounded values, and time runs out soon after its limit whatever the template does. That needs no
signal, thread or process, and holds on every platform.

This module imports jinja2; import it where a template is rendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from types import NoneType
from typing import Any

import jinja2
from jinja2 import filters
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from aipc.chat.bounded_compiler import BoundedCodeGenerator, GenerationTag
from aipc.chat.limits import LimitReachedError, TemplateLimits

LONGEST_INTEGER_DIGITS = 4300
LONGEST_TIME_FORMAT = 200
WIDEST_INDENT = 16

# Nothing that pads (center, zfill, …), and nothing that chat templates have no use for (translate, …).
_STR_METHODS = (
    "capitalize casefold count endswith find format index isalnum isalpha isascii isdecimal isdigit isidentifier "
    "islower isnumeric isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind "
    "rindex rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"
)
_NOT_LINEAR = "lstrip rstrip strip rfind rindex rpartition rsplit"
_FILTERS = (
    "abs attr capitalize count d default dictsort e escape first float groupby items last length list lower map max "
    "min reject rejectattr reverse safe select selectattr sort title truncate unique upper"
)
STR_METHODS = frozenset(_STR_METHODS.split())
NOT_LINEAR = frozenset(_NOT_LINEAR.split())
FILTERS = frozenset(_FILTERS.split())


class RaisedByTemplateError(Exception):
    """The template called `raise_exception`."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Made anew for each rendering, whose `TemplateLimits` it holds."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%", "**"))

    def __init__(self, *, seconds: float, characters: int) -> None:
        # Without `optimized=False` Jinja would compute constant expressions while it compiles.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            finalize=_emit_value,
            cache_size=0,
            extensions=[loopcontrols, GenerationTag],
        )
        self.code_generator_class = BoundedCodeGenerator
        self.limits = TemplateLimits(seconds=seconds, characters=characters)
        # The compiled template calls these.
        self.tick = self.limits.tick
        self.emit = self.limits.emit
        self.bounded = self.limits.bounded
        self.filters = {name: self.filters[name] for name in FILTERS} | self._own_filters()
        self.globals.pop("lipsum", None)
        self.globals.pop("cycler", None)
        self.globals |= {
            "namespace": QuietNamespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def _own_filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "format": self._format,
            "indent": self._indent,
            "int": self._int,
            "join": self._join,
            "replace": self._replace,
            "string": str,
            "sum": self._sum,
            "tojson": self._tojson,
            "trim": self._trim,
        }

    # Where Jinja comes by while a template runs. The names of the first parameters are its own.

    def call(
        __self,  # noqa: N805
        __context: Any,
        __obj: Any,
        *args: Any,
        _loop_vars: Any = None,  # Jinja adds these two within loops and blocks; they are no arguments of the call
        _block_vars: Any = None,
        **kwargs: Any,
    ) -> Any:
        __self.tick()
        __self.bounded(args)  # they come back together as a macro's `varargs` and `kwargs`
        __self.bounded(kwargs)
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str):
            return __self.bounded(__self._call_str_method(owner, __obj, args, kwargs))
        scope = {"_loop_vars": _loop_vars, "_block_vars": _block_vars}
        return __self.bounded(super().call(__context, __obj, *args, **scope, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.tick()
        if operator == "*":
            self.limits.check_product(left, right)
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            self.limits.check_bits(left.bit_length() * max(right, 0))
        elif operator == "%" and isinstance(left, str):
            self.limits.check_percent_format(left, right)
        return self.bounded(super().call_binop(context, operator, left, right))

    def call_filter(self, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        return self.bounded(super().call_filter(*args, **kwargs))

    def call_test(self, *args: Any, **kwargs: Any) -> Any:
        self.tick()
        return super().call_test(*args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        self.tick()
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        self.tick()
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str):
            return attr in STR_METHODS
        if isinstance(obj, (int, float, complex, bytes, type)):
            return False  # int.to_bytes(10**9, …)
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        text = value.__self__

        def checked(*args: Any, **kwargs: Any) -> str:
            self.limits.check_brace_format(text, (*args, *kwargs.values()))
            return sandboxed(*args, **kwargs)

        return checked

    def concat_text(self, values: Iterable[Any]) -> str:
        """`a ~ b ~ c`."""
        return "".join(self.limits.checked_texts(values, separator=0))

    def _call_str_method(self, owner: str, method: Any, args: Any, kwargs: Any) -> Any:
        name = method.__name__
        if name not in STR_METHODS:
            raise LimitReachedError(f"the method {name} of strings is not for chat templates")
        if name == "join":
            return owner.join(self.limits.checked_texts(*args, separator=len(owner)))
        if name == "replace":
            return self._replace(owner, *args, **kwargs)
        if name in NOT_LINEAR and args and isinstance(args[0], str):
            self.limits.check_comparisons(owner, args[0])
        return method(*args, **kwargs)

    # Filters that Jinja's own would not do within bounds.

    def _replace(self, text: object, old: str, new: str, count: int | None = None) -> str:
        text, old, new = str(text), str(old), str(new)
        occurrences = text.count(old) if count is None or count < 0 else min(count, text.count(old))
        self.limits.check_size(len(text) + occurrences * len(new))
        return text.replace(old, new, -1 if count is None else count)

    def _join(self, value: Iterable[Any], d: object = "", attribute: str | int | None = None) -> str:
        items = value if attribute is None else map(filters.make_attrgetter(self, attribute), value)
        return str(d).join(self.limits.checked_texts(items, separator=len(str(d))))

    def _trim(self, value: object, chars: str | None = None) -> str:
        self.limits.check_comparisons(str(value), chars or "")
        return str(value).strip(chars)

    def _indent(self, s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
        characters = width if isinstance(width, int) else len(width)
        self.limits.check_size(len(s) + characters * (1 + len(s.splitlines())))
        return filters.do_indent(s, width, first, blank)

    def _int(self, value: Any, default: int = 0, base: int = 10) -> int:
        if isinstance(value, str) and len(value) > LONGEST_INTEGER_DIGITS:
            raise LimitReachedError(f"a number has more than {LONGEST_INTEGER_DIGITS} digits")
        return filters.do_int(value, default, base)

    def _format(self, value: object, *args: Any, **kwargs: Any) -> str:
        self.limits.check_percent_format(str(value), kwargs or args)
        return filters.do_format(str(value), *args, **kwargs)

    def _sum(self, iterable: Iterable[Any], attribute: str | int | None = None, start: float = 0) -> Any:
        if not isinstance(start, (int, float)):
            raise TypeError("sum is for numbers")
        items = iterable if attribute is None else map(filters.make_attrgetter(self, attribute), iterable)
        return sum(items, start)

    def _tojson(
        self,
        x: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """transformers' own, which escapes no HTML."""
        if not isinstance(indent, (int, NoneType)) or (indent or 0) > WIDEST_INDENT:
            raise LimitReachedError(f"an indent is wider than {WIDEST_INDENT} characters")
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class QuietNamespace(Namespace):
    """Says nothing of what it holds, which is never measured."""

    def __repr__(self) -> str:
        return "<namespace>"


@jinja2.pass_context
def _emit_value(context: Any, value: object) -> str:
    """Jinja's `finalize`. That it takes the context keeps Jinja from computing output while it compiles."""
    environment: BoundedEnvironment = context.environment
    return environment.emit(str(value))


def _raise_exception(message: object) -> None:
    raise RaisedByTemplateError(str(message))


def _strftime_now(format: str) -> str:
    if len(format) > LONGEST_TIME_FORMAT or re.search(r"%[^a-zA-Z%]*\d", format):
        raise LimitReachedError(f"the time format {format[:80]!r} is too long, or gives a width")
    return datetime.now().strftime(format)  # the PC's own time, as in transformers
