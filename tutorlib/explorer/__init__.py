"""A GPT that runs where it is read: its weights and some 300 lines of JavaScript in one output, with nothing to fetch."""

from tutorlib.explorer.explorer import Explorer

__all__ = ["Explorer"]
