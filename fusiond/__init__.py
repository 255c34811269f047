"""Fusion's daemon: supervision, routing, recovery and the journal of LLM work."""

__version__ = "0.1.0"
