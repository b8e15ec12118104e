"""Commands for time series."""

__all__: list[str] = []
