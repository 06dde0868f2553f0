"""The models of *Large Models, Line by Line*, written to be read."""

__version__ = "0.1.0"
