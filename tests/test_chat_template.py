"""Chat templates, and what they cannot do."""

from __future__ import annotations

import sys
import threading
import time

import pytest
from tiny_tokenizer import PHI3_CHAT_TEMPLATE

from aipc.chat.template import LONGEST_TEMPLATE_CHARACTERS, ChatTemplate
from aipc.errors import TemplateError

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>&"}]
LOOP = "{% for i in range(99) %}"

TOO_LONG = {
    "nested loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "a loop that writes nothing": "{% for a in range(100000) if messages|map('list')|list and false %}{% endfor %}" * 9,
    "macros that call themselves twice": (
        "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(60) }}"
    ),
    "filters in filters": (
        "{% for x in range(100000)|map('string')|map('upper')|map('trim') %}"
        "{% for y in range(100000)|map('string')|list %}{% endfor %}{% endfor %}"
    ),
}
TOO_LARGE = {
    "a product": "{{ 'x' * 10**9 }}",
    "a product the other way": "{{ 10**9 * 'x' }}",
    "a list of many": "{{ [messages] * 10**9 }}",
    "a power": "{{ 2**(10**9) }}",
    "squares of squares": "{% set n = namespace(x=3) %}" + LOOP + "{% set n.x = n.x * n.x %}{% endfor %}",
    "doubling with +": "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = n.x + n.x %}{% endfor %}",
    "doubling with ~": "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubling with join": "{% set n = namespace(x='ab') %}" + LOOP + "{% set n.x = [n.x, n.x]|join %}{% endfor %}",
    "lists in lists": "{% set n = namespace(x=[1]) %}" + LOOP + "{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "tuples in tuples": "{% set n = namespace(x=1) %}" + LOOP + "{% set n.x = (n.x, n.x) %}{% endfor %}{{ n.x }}",
    "dicts in dicts": "{% set n = namespace(x=1) %}" + LOOP + "{% set n.x = {1: n.x, 2: n.x} %}{% endfor %}{{ n.x }}",
    "dict views in dicts": (
        "{% set n = namespace(x={}) %}" + LOOP + "{% set n.x = {1: n.x.items(), 2: n.x.items()} %}{% endfor %}{{ n.x }}"
    ),
    "a macro's arguments": (
        "{% set n = namespace(x=1) %}{% macro m() %}{% set n.x = varargs %}{% endmacro %}"
        + LOOP
        + "{{ m(n.x, n.x) }}{% endfor %}{{ n.x }}"
    ),
    "a percent width": "{{ '%999999999d' % 1 }}",
    "a percent width given apart": "{{ '%*d' % (999999999, 1) }}",
    "a percent width behind a name": "{{ '%(a)999999999d' % {'a': 1} }}",
    "a percent precision": "{{ '%.999999999f' % 1 }}",
    "a format filter": "{{ '%999999999d'|format(1) }}",
    "a mapped format": "{{ ['%999999999d']|map('format', 1)|list }}",
    "a brace width": "{{ '{:>999999999}'.format(1) }}",
    "a brace width given apart": "{{ '{:{}}'.format(1, 999999999) }}",
    "many fields": "{{ ('{0}' * 1000).format('x' * 10000) }}",
    "a replacement": "{{ ('a' * 1000000)|replace('a', 'b' * 1000000) }}",
    "a replace method": "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
    "a joint": "{{ ('b' * 1000000).join('a' * 1000000) }}",
    "an indent": "{{ 'a'|indent(10**9) }}",
    "a JSON indent": "{{ [1]|tojson(indent=10**9) }}",
    "a time format": "{{ strftime_now('%999999999d') }}",
    "a number of many digits": "{{ ('9' * 1000000)|int }}",
    "text between the tags": "{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}",
    "output in a block": "{% set x %}{% for i in range(100000) %}{{ 'x' * 1000000 }}{% endfor %}{% endset %}",
    "a search that is not linear": "{{ ('a' * 2000000).rfind('b' + 'a' * 1000000) }}",
    "a strip that is not linear": "{{ ('a' * 2000000)|trim('b' * 1000000) }}",
    "escapes of escapes": "{{ ('&' * 3000000)|e|e|e|e }}",
}
FORBIDDEN = {
    "a class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a class in a format": "{{ '{0.__class__}'.format(messages) }}",
    "globals": "{{ raise_exception.__globals__['json'] }}",
    "a change of the messages": "{{ messages.append(1) }}",
    "a method that pads": "{{ 'a'.zfill(10**9) }}",
    "bytes of a number": "{{ (1).to_bytes(10**9, 'big') }}",
    "a filter that pads": "{{ 'x'|center(10**9) }}",
    "a file": "{% include '/etc/passwd' %}",
    "a macro without end": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "a block without end": "{% block a %}{{ self.a() }}{% endblock %}",
    "a sum of lists": "{{ [range(9)|list]|sum(start=[]) }}",
    "a long range": "{{ range(10**9)|list }}",
    "brackets without end": "{{ " + "(" * 5000,
    "an expression that is too deep": "{{ " + "+".join(["1"] * 20000) + " }}",
    "blocks that are too deep": "{% if messages %}" * 200 + "{% endif %}" * 200,
}


NAMES = "{% set " + ",".join(f"a{number}" for number in range(5000)) + " = messages %}"
SOME_NAMES = "{% set " + ",".join(f"a{number}" for number in range(480)) + " = messages %}"
SLOW_TO_COMPILE = {
    "many branches": "{% if messages %}{% endif %}" * 2200,
    "many branches in a chain": "{% if 0 %}" + "{% elif 0 %}" * 5000 + "{% endif %}",
    "many names in many branches": NAMES + "{% if 1 %}{% endif %}" * 1500,
    "many names in many files": "{% if 0 %}" + NAMES + "{% include 'a' %}" * 1500 + "{% endif %}",
    "many names in many imports": NAMES + "{% import 'a' as b with context %}" * 900,
    "many names in many blocks": SOME_NAMES
    + "".join(f"{{% block b{number} scoped %}}{{% endblock %}}" for number in range(900)),
}


def _render(source: str, **options: float) -> str:
    return ChatTemplate(source, {"eos_token": "</s>"}, **options).render(MESSAGES)


def test_the_template_of_phi_3_writes_the_form_the_model_was_trained_on():
    text = ChatTemplate(PHI3_CHAT_TEMPLATE, {"eos_token": "<|endoftext|>"}).render(MESSAGES)
    assert text == "<|system|>\nBe brief.<|end|>\n<|user|>\nHi <b>&<|end|>\n<|assistant|>\n"


def test_without_a_generation_prompt_the_template_closes_the_text():
    template = ChatTemplate(PHI3_CHAT_TEMPLATE, {"eos_token": "<|endoftext|>"})
    assert template.render(MESSAGES, add_generation_prompt=False).endswith("<|end|>\n<|endoftext|>")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "{{ messages|tojson }}",
            '[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>&"}]',
        ),
        ("{{ {'ü': 1}|tojson(indent=1) }}", '{\n "ü": 1\n}'),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{{ m.role }}{% endfor %}", "system"),
        ("{% for m in messages %}\n  {% continue %}\n{% endfor %}.", "."),
        ("{% generation %}{{ messages[0].content }}{% endgeneration %}!", "Be brief.!"),
        ("{% set n = namespace(k=0) %}{% for m in messages %}{% set n.k = n.k + 1 %}{% endfor %}{{ n.k }}", "2"),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') ~ m('b') }}", "<a><b>"),
        ("{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|join(', ') }}", "Hi <b>&"),
        ("{{ messages[1]['content'].split(' ')[-1] | trim | upper }}{{ messages[1:]|length }}", "<B>&1"),
        ("{{ '%s-%d' % ('a', 3) }}{{ '{} {:>3}'.format('b', 4) }}{{ 'a' * 3 }}{{ 7 // 2 ** 1 }}", "a-3b   4aaa3"),
        ("{{ strftime_now('%Y') | length }}{{ tools is none }}{{ missing is defined }}", "4TrueFalse"),
        ("{{ eos_token }}{{ add_generation_prompt }}{{ nothing }}{{ 'b' in 'abc' }}", "</s>TrueTrue"),
        ("{{ dict(a=1) | items | list }}{{ [3, 1] | sort | first }}{{ 'x'.startswith('x') }}", "[('a', 1)]1True"),
    ],
)
def test_what_chat_templates_use_works(source, expected):
    assert _render(source) == expected


@pytest.mark.parametrize("source", TOO_LONG.values(), ids=TOO_LONG)
def test_a_template_that_runs_long_is_stopped(source):
    started = time.perf_counter()
    with pytest.raises(TemplateError, match=r"more than 0\.2 s"):
        _render(source, seconds=0.2)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("source", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_template_that_makes_something_large_is_stopped_before_it_has_it(source):
    started = time.perf_counter()
    with pytest.raises(TemplateError, match="limits"):
        _render(source)
    assert time.perf_counter() - started < 4


@pytest.mark.parametrize("source", SLOW_TO_COMPILE.values(), ids=SLOW_TO_COMPILE)
def test_a_template_that_would_take_long_to_compile_is_refused_before_that(source):
    assert len(source) <= LONGEST_TEMPLATE_CHARACTERS
    started = time.perf_counter()
    with pytest.raises(TemplateError, match="limits"):
        _render(source)
    assert time.perf_counter() - started < 1.5


def test_a_template_several_times_as_large_as_published_ones_compiles():
    names = "".join(f"{{% set name{number} = {number} %}}" for number in range(450))
    branches = "{% if name0 %}{% elif name1 %}{{ name2 }}{% else %}.{% endif %}" * 300
    assert _render(names + branches) == "2" * 300
    chain = "{% if 0 %}" + "{% elif 0 %}" * 400 + "{% else %}end{% endif %}"
    assert _render(chain) == "end"


def test_a_template_that_needs_another_file_says_so_with_the_line():
    with pytest.raises(TemplateError, match="line 2 asks for another file"):
        _render("\n{% include 'a' %}")


@pytest.mark.parametrize("source", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_template_gets_nothing_but_the_messages(source):
    with pytest.raises(TemplateError):
        _render(source)


@pytest.mark.skipif(sys.platform == "win32", reason="resource is POSIX only")
def test_hostile_templates_take_little_memory():
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for source in TOO_LARGE.values():
        with pytest.raises(TemplateError):
            _render(source)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_the_limits_hold_in_any_thread():
    caught: list[Exception] = []

    def render() -> None:
        try:
            _render(TOO_LONG["nested loops"], seconds=0.2)
        except TemplateError as error:
            caught.append(error)

    threads = [threading.Thread(target=render) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=5)
    assert len(caught) == 3


def test_long_messages_have_room():
    content = "x" * 3_000_000
    text = ChatTemplate(PHI3_CHAT_TEMPLATE, {"eos_token": ""}).render([{"role": "user", "content": content}])
    assert content in text


def test_an_error_says_what_and_on_which_line():
    with pytest.raises(TemplateError, match=r"line 3 .*ZeroDivisionError"):
        _render("{# one #}\ntwo\n{{ 1 / 0 }}")
    with pytest.raises(TemplateError, match="line 2"):
        _render("\n{% endfor %}")
    with pytest.raises(TemplateError, match=r"refuses the messages: no system role"):
        _render("{{ raise_exception('no system role') }}")


def test_a_template_of_unheard_of_length_is_refused():
    with pytest.raises(TemplateError, match="too long"):
        _render("x" * 1_000_001)


def test_rendering_takes_no_time():
    template = ChatTemplate(PHI3_CHAT_TEMPLATE, {"eos_token": ""})
    template.render(MESSAGES)
    started = time.perf_counter()
    for _ in range(20):
        template.render(MESSAGES)
    assert (time.perf_counter() - started) / 20 < 0.005


@pytest.mark.parametrize("scope", ["for message in messages", "block answer", "macro shown()"])
@pytest.mark.parametrize(
    "call", ["strip()", "split('x')", "replace('h', 'j')", "startswith('h')", "upper()", "title()"]
)
def test_string_methods_work_inside_loops_blocks_and_macros(scope: str, call: str) -> None:
    end = f"end{scope.split()[0]}"
    used = "{{ shown() }}" if scope.startswith("macro") else ""
    source = "{% " + scope + " %}{{ 'hi'." + call + " }}{% " + end + " %}" + used
    rendered = ChatTemplate(source, {}).render([{"role": "user", "content": "hi"}])
    assert rendered == str(eval(f"'hi'.{call}"))


def test_half_a_character_is_an_error_of_the_template():
    with pytest.raises(TemplateError, match="surrogates not allowed"):
        _render(r"{{ '\ud800' }}")


BROKEN = [
    "{% if %}",
    "{{ 1 / 0 }}",
    "{{ raise_exception('no') }}",
    "x" * 100_000,
    "{{" + "(" * 5000,
    "{% include 'a' %}",
]


@pytest.mark.parametrize("source", BROKEN, ids=range(len(BROKEN)))
def test_every_error_ends_in_what_to_do(source):
    with pytest.raises(TemplateError, match=r"\ntry: .*--raw"):
        _render(source)
