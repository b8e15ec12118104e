"""The commands for DNA, one module each."""

__all__: list[str] = []
