"""Figures and HTML pages of results."""

__all__: list[str] = []
