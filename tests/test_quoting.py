"""Words of the commands that messages suggest."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipc.quoting import quoted


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_posix_shell_reads_the_word_as_it_was(word):
    assert shlex.split(quoted(word, windows=False)) == [word]


@pytest.mark.skipif(not Path("/bin/sh").exists(), reason="no shell")
def test_the_shell_itself_reads_the_words_as_they_were():
    words = ["a b", "$HOME", "`id`", 'a"b', "it's", "a\\b", "~", "*", "a;b", "a&b", "#a", "", "übung 你好", "a!b", "-x"]
    script = "printf '%s\\n' " + " ".join(quoted(word, windows=False) for word in words)
    shell = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True)
    assert shell.stdout.decode().splitlines() == words


@pytest.mark.parametrize("path", ["/home/me/phi3-int4", "microsoft/Phi-3@main", "/Übung/x_1.5,b"])
def test_an_ordinary_path_is_left_as_it_is(path):
    assert quoted(Path(path), windows=False) == path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\Users\me\phi3", r"C:\Users\me\phi3"),
        (r"C:\My models\phi3", r'"C:\My models\phi3"'),
        (r"C:\R&D\phi3", r'"C:\R&D\phi3"'),
        (r"C:\models (old)\phi3", r'"C:\models (old)\phi3"'),
        ("", '""'),
    ],
)
def test_windows_gets_double_quotes_where_it_needs_them(path, expected):
    assert quoted(path, windows=True) == expected


@pytest.mark.skipif(sys.platform != "win32", reason="cmd is Windows' own")
def test_cmd_itself_reads_the_word_as_it_was():
    word = r"C:\My models & more\phi3 (old)"
    script = f'"{sys.executable}" -c "import sys; print(sys.argv[1])" {quoted(word)}'
    assert subprocess.run(script, shell=True, capture_output=True, text=True).stdout.strip() == word
