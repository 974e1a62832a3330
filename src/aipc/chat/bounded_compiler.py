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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TEMPLATE_FILENAME = "<chat template>"


def compile_bounded(environment: jinja2.Environment, source: str) -> CodeType:
    """Compile `source` so that each loop iteration looks at the clock. Raises what Jinja and Python raise."""
    tree = environment.parse(source)
    for loop in tree.find_all(nodes.For):
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        loop.body.insert(0, nodes.ExprStmt(tick).set_lineno(loop.lineno))
    return environment.compile(tree, filename=TEMPLATE_FILENAME)


class BoundedCodeGenerator(CodeGenerator):
    """Wraps what makes a value in `environment.bounded(…)`; operators and calls pass the sandbox already."""

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
