"""The gallery: every file of examples/, with its docstring as the text before it."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures" / "examples"


def markdown() -> str:
    """Return a section for every example, in the order of their names."""
    return "\n".join(section(path) for path in sorted((ROOT / "examples").glob("*.py")))


def section(path: Path) -> str:
    """Return the section of an example: title, text, pictures and code."""
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    title, _, text = (ast.get_docstring(module) or path.stem).partition("\n")
    code = "".join(source.splitlines(keepends=True)[module.body[0].end_lineno :]).strip()
    pictures = [
        f"![{title.rstrip('.')}](pictures/examples/{picture.name})\n"
        for picture in sorted(PICTURES.glob(f"{path.stem}*.*"))
    ]
    lines = [f"## {title.rstrip('.')}", "", text.strip(), "", *pictures]
    summary = f'??? example "examples/{path.name}"'
    indented = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
    return "\n".join([*lines, summary, "", "    ```python", indented, "    ```", ""])
