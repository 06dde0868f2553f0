"""tutorlib beside its peers, in one process: `python -m benchmarks` measures and writes the book's page of ratios."""
