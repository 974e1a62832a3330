"""Jinja's compiler, made to hand every new value and all output to `aipc.chat.bounded_jinja.BoundedEnvironment`.

This module imports jinja2; import it where a template is rendered.
"""

from __future__ import annotations

from types import CodeType
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension
from jinja2.parser import Parser

from aipc.chat.limits import LimitReachedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEMPLATE_FILENAME = "<chat template>"
# Published templates have under 300 statements and 100 names. Jinja copies a table of all names for each branch.
MOST_STATEMENTS = 2000
MOST_NAMES = 500
# Of Python that Jinja writes, 27 for each of the longest template's own. Some tags are written with all names in them.
LONGEST_CODE_CHARACTERS = 2_000_000
OTHER_FILES: tuple[type[nodes.Stmt], ...] = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)


def compile_bounded(environment: jinja2.Environment, source: str) -> CodeType:
    """Compile `source` so that each loop iteration looks at the clock.

    Raises `LimitReachedError` for more than compiles in a second or two, and what Jinja and Python raise.
    """
    tree = environment.parse(source)
    _check_amounts(tree)
    for loop in tree.find_all(nodes.For):
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        loop.body.insert(0, nodes.ExprStmt(tick).set_lineno(loop.lineno))
    return environment.compile(tree, filename=TEMPLATE_FILENAME)


def _check_amounts(tree: nodes.Template) -> None:
    other = next(tree.find_all(OTHER_FILES), None)
    if other is not None:
        raise LimitReachedError(f"line {other.lineno} asks for another file, and a chat template is one file")
    statements = sum(1 for _ in tree.find_all(nodes.Stmt))
    if statements > MOST_STATEMENTS:
        raise LimitReachedError(f"it has {statements:,} statements, {MOST_STATEMENTS:,} at most")
    names = len({name.name for name in tree.find_all(nodes.Name)})
    if names > MOST_NAMES:
        raise LimitReachedError(f"it has {names:,} names, {MOST_NAMES:,} at most")


class BoundedCodeGenerator(CodeGenerator):
    """Wraps what makes a value in `environment.bounded(…)`; operators and calls pass the sandbox already."""

    _written_characters = 0

    def write(self, x: str) -> None:
        """Jinja's own, which everything written goes through."""
        self._written_characters += len(x)
        if self._written_characters > LONGEST_CODE_CHARACTERS:
            raise LimitReachedError(f"compiled it has more than {LONGEST_CODE_CHARACTERS:,} characters")
        super().write(x)

    def visit_List(self, node: nodes.List, frame: Frame) -> None:  # noqa: N802
        self._bounded(super().visit_List, node, frame)

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:  # noqa: N802
        self._bounded(super().visit_Dict, node, frame)

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802
        if node.ctx == "load":
            self._bounded(super().visit_Tuple, node, frame)
        else:  # the left side of an assignment
            super().visit_Tuple(node, frame)

    def visit_Filter(self, node: nodes.Filter, frame: Frame) -> None:  # noqa: N802
        self._bounded(super().visit_Filter, node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        self.write("environment.concat_text((")
        for arg in node.nodes:
            self.visit(arg, frame)
            self.write(", ")
        self.write("))")

    def _bounded(self, visit: Callable[..., None], node: nodes.Node, frame: Frame) -> None:
        self.write("environment.bounded(")
        visit(node, frame)
        self.write(")")

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        # Jinja's own hook for what becomes of the text between the tags.
        return f"environment.emit({super()._output_const_repr(group)})"


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks what a model is trained on; here it is its content."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)
