"""The gallery: every file of examples/, with its docstring as the text before it."""

from __future__ import annotations

import ast
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def markdown() -> str:
    """Return a section for every example and notebook, in the order of their names."""
    folder = ROOT / "examples"
    examples = [example(path) for path in sorted(folder.glob("*.py"))]
    return "\n".join([*examples, *(notebook(path) for path in sorted(folder.glob("*.ipynb")))])


def example(path: Path) -> str:
    """Return the section of an example: title, text and code."""
    source = path.read_text(encoding="utf-8")
    module = ast.parse(source)
    title, _, text = (ast.get_docstring(module) or path.stem).partition("\n")
    code = "".join(source.splitlines(keepends=True)[module.body[0].end_lineno :]).strip()
    lines = [f"## {title.rstrip('.')}", "", text.strip(), ""]
    summary = f'??? example "examples/{path.name}"'
    indented = "\n".join(f"    {line}".rstrip() for line in code.splitlines())
    return "\n".join([*lines, summary, "", "    ```python", indented, "    ```", ""])


def notebook(path: Path) -> str:
    """Return the section of a notebook: title, first text, and the pictures that it shows."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    first = "".join(cells[0]["source"])
    title, _, text = first.lstrip("# ").partition("\n")
    lines = [f"## Notebook: {title}", "", text.strip(), "", f"The file is `examples/{path.name}`."]
    words = title
    for cell in cells[1:]:
        if cell["cell_type"] == "markdown":
            words = "".join(cell["source"]).strip().splitlines()[0].lstrip("# ")
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                data = "".join(output["data"]["image/png"]).replace("\n", "")
                lines += ["", f"{words}", "", f"![{words}](data:image/png;base64,{data})"]
    return "\n".join([*lines, ""])
