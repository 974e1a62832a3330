"""The command line: one module per verb, imported when it is called.

stdout is the result; progress, statistics and errors go to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted. A traceback is shown only with `--debug`.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from aipc import __version__
from aipc.cli.parser import Parser
from aipc.cli.streams import forget_stdout, never_fail_on_a_character, reader_left
from aipc.errors import AipcError, UsageError

VERBS = {
    "run": "answer one prompt and stream the text",
    "chat": "talk with a model",
    "convert": "quantise a Hugging Face checkpoint into an OpenVINO directory",
    "models": "list, verify, check or remove the models in the store",
    "devices": "examine this PC: what runs on its CPU, GPU and NPU, and what helps",
}
INTERRUPTED = 130
_DEBUG = "--debug"
_DEBUG_HELP = "show a traceback when something fails"


def program() -> NoReturn:
    """`main` as a process of its own, which ends at once: the interpreter's tidying up would take 50 ms."""
    # numpy's BLAS would start threads that wait for work by spinning, and no command gives them any.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    code = main()
    with suppress(OSError, ValueError, AttributeError):  # nobody is left to be told
        sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    never_fail_on_a_character()
    code = _guarded(lambda: _run(words), debug=_DEBUG in words)
    # Here rather than at the interpreter's end, where a reader that left would make it complain.
    return code or _guarded(_flush, debug=False)


def _guarded(work: Callable[[], int], *, debug: bool) -> int:
    """The exit code of `work`, or of what it raised once that is told."""
    try:
        return work()
    except SystemExit as end:  # argparse after --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        return _told("interrupted", INTERRUPTED, debug=debug)
    except AipcError as error:
        return _told(f"error: {error}", error.exit_code, debug=debug)
    except OSError as error:
        if reader_left(error):
            forget_stdout()
            return 0
        is_full = error.errno == errno.ENOSPC
        try_next = "free some space on the disk that is written to" if is_full else f"the same command with {_DEBUG}"
        return _told(f"error: the system refused: {error}\ntry: {try_next}", 1, debug=debug)
    except Exception as error:
        return _told(
            f"error: aipc itself failed: {type(error).__name__}: {error}\n"
            f"try: the same command with {_DEBUG}, and report what it prints",
            1,
            debug=debug,
        )


def _told(message: str, code: int, *, debug: bool) -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print(message, file=sys.stderr)
    return code


def _flush() -> int:
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            forget_stdout()  # or the interpreter tries once more, and fails in its own words
            raise
    return 0


def _run(words: list[str]) -> int:
    words = words[1:] if words[:1] == [_DEBUG] else words
    if not words or words[0] not in VERBS:
        return _top_level(words)
    module = importlib.import_module(f"aipc.cli.{words[0]}")
    parser = Parser(prog=f"aipc {words[0]}", description=module.__doc__)
    module.add_arguments(parser)
    parser.add_argument(_DEBUG, action="store_true", help=_DEBUG_HELP)
    code: int = module.run(parser.parse_words(words[1:]))
    return code


def _top_level(words: list[str]) -> int:
    parser = Parser(
        prog="aipc",
        usage="aipc COMMAND …",
        description="Run Phi-3-class language models on an AI PC.",
        epilog="commands:\n" + "".join(f"  {verb:9} {text}\n" for verb, text in VERBS.items()) + "\n"
        "aipc COMMAND --help tells more about each.",
    )
    parser.add_argument("--version", action="version", version=f"aipc {__version__}", help="show it and exit")
    parser.add_argument(_DEBUG, action="store_true", help=_DEBUG_HELP)
    if words and not words[0].startswith("-"):
        raise _unknown_command(words[0])
    parser.parse_args(words)
    parser.print_help()
    return 0


def _unknown_command(word: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(word, VERBS, n=1)
    return UsageError(
        "the command",
        expected=f"one of {', '.join(VERBS)}",
        found=repr(word),
        try_next=f"aipc {near[0]} --help" if near else 'aipc --help, or aipc run "…" for a prompt',
    )
