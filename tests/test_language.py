"""Docstrings, messages, help texts and pages are in plain English: some phrases are rejected.

The list holds phrases of an old dialect of this project that readers had to read twice. A phrase that
is right in one place is listed in `ALLOWED` with that place.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PHRASES = (
    *(r"\b(is|are|was|were|be) told\b", r"\btells? (what|how|which|whether)\b", r"\bbelieved\b"),
    *(
        r"\bhang(s|ing)? together\b",
        r"\bforeseen\b",
        r"\bso many\b",
        r"\bthe mend\b",
        r"\bto mend\b",
    ),
    *(r"\bwhat none\b", r"\bgo(es)? on with\b", r"\bas far as that goes\b", r"\bwords that tell\b"),
    *(r"\bread-outs?\b", r"\bcounted words\b", r"\blower_case\b", r"\bat most about\b"),
)
PATTERN = re.compile("|".join(PHRASES), re.IGNORECASE)
FOLDERS = ("titans_ts", "kernels", "datasets", "pipelines", "examples", "docs")
SOURCES = sorted(
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not any(part.is_symlink() for part in path.parents)
)
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(p for f in ("kernels", "datasets", "docs") for p in (ROOT / f).rglob("*.md")),
    ]
)
ALLOWED: dict[str, tuple[str, ...]] = {
    "titans_ts/genomics/portable.py": ("lower_case",),  # a name in the description of a graph
    "titans_ts/nn/migration.py": ("lower_case",),  # the name in models of earlier versions
}


def name(path):
    return path.relative_to(ROOT).as_posix()


def texts(path):
    """Every string of a module (docstrings, messages, help texts), and every comment."""
    source = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, " ".join(node.value.split())
    for number, line in enumerate(source.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_a_module_is_in_plain_english(path):
    allowed = ALLOWED.get(name(path), ())
    problems = [
        f"{name(path)}:{number}: {match[0]!r} in {text[max(0, match.start() - 40) : match.end() + 40]!r}"
        for number, text in texts(path)
        for match in PATTERN.finditer(text)
        if match[0] not in allowed
    ]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_is_in_plain_english(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    problems = [text[max(0, m.start() - 40) : m.end() + 40] for m in PATTERN.finditer(text)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_is_wrapped(path):
    """At 100 columns, but for tables, code and what has no place to break."""
    code = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        code ^= line.lstrip().startswith("```")
        if not code and not line.startswith("|") and len(line) > 100:
            assert " " not in line.strip().lstrip("-* "), f"{name(path)}:{number}: {line}"
