"""The reference of the command line, from its own help."""

from __future__ import annotations

import re


def markdown() -> str:
    """Return a section for every command: what it does, examples, and its options."""
    import typer

    from titans_ts.pipelines.cli import app
    from titans_ts.pipelines.commands import COMMANDS

    found = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = []
    for product, group in COMMANDS.items():
        lines += [f"## {product}", ""]
        for command in group:
            lines += [f"### {command.name}", "", _paragraphs(found[command.name].help), ""]
            examples = "\n".join(f"titans-ts {line}" for line in command.examples)
            lines += ["```bash", examples, "```", "", *_options(found[command.name]), ""]
    return "\n".join(lines)


def _options(command: object) -> list[str]:
    """A table of a command's arguments and options."""
    rows = ["| option | meaning |", "|---|---|"]
    for p in command.params:  # type: ignore[attr-defined]
        if getattr(p, "hidden", False):
            continue
        argument = p.param_type_name == "argument"
        names = p.name.upper() if argument else ", ".join([*p.opts, *p.secondary_opts])
        words = _cell(getattr(p, "help", None) or "")
        default = getattr(p, "show_default", True) and p.default
        if not argument and isinstance(default, (int, float, str)) and default not in ("", False):
            words += f" Default: `{default}`."
        rows.append(
            f"| `{names}`{' (required)' if p.required and not argument else ''} | {words} |"
        )
    return rows


def _paragraphs(text: str | None) -> str:
    return re.sub(r"\\?\x08\n?", "", (text or "").partition("\f")[0]).strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
