"""Data sets, read from installed packages or generated, and the batches made of them."""
