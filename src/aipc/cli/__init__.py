"""The command line: one module per verb, imported when it is called.

stdout is the result; progress, statistics and errors go to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage,
130 interrupted. A traceback is shown only with `--debug`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from aipc.cli.parsing import Parser
from aipc.errors import AipcError

VERBS = {
    "run": "answer one prompt and stream the text",
    "chat": "talk with a model",
    "convert": "quantise a Hugging Face checkpoint into an OpenVINO directory",
    "models": "list, verify or remove the models in the store",
    "devices": "show this PC's processors and what runs on them",
}
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _never_fail_on_a_character()
    try:
        return _run(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe left, as `head` does. Python would complain once more while it closes stdout.
        sys.stdout = None
        return 0
    except AipcError as error:
        if "--debug" in words:
            raise
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if "--debug" in words:
            raise
        print(
            f"error: aipc itself failed: {type(error).__name__}: {error}\ntry: the same command with --debug, "
            "and report what it prints",
            file=sys.stderr,
        )
        return 1


def _run(words: list[str]) -> int:
    verb = next((word for word in words if not word.startswith("-")), None)
    if verb not in VERBS or words.index(verb) > 0:
        return _top_level(words)
    module = importlib.import_module(f"aipc.cli.{verb}")
    parser = Parser(prog=f"aipc {verb}", description=module.__doc__)
    module.add_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    code: int = module.run(parser.parse_args(words[1:]))
    return code


def _top_level(words: list[str]) -> int:
    from importlib import metadata

    parser = Parser(
        prog="aipc",
        description="Run Phi-3-class language models on an AI PC.",
        epilog="commands:\n" + "".join(f"  {verb:9} {text}\n" for verb, text in VERBS.items()) + "\n"
        "aipc COMMAND --help tells more about each.",
    )
    parser.add_argument("--version", action="version", version=f"aipc {metadata.version('aipc')}")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    parser.add_argument("command", nargs="?", metavar="COMMAND", choices=list(VERBS), help="see below")
    parser.parse_args(words)
    parser.print_help(sys.stdout if "--help" in words else sys.stderr)
    return 0 if not words else 2


def _never_fail_on_a_character() -> None:
    """A console or pipe of another encoding shows ? for what it cannot show, rather than an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
