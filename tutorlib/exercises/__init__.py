"""Exercises that check themselves: one sheet a chapter. `sheet` says how to write one."""

from tutorlib.exercises.sheet import Exercise, ExerciseSheet, Wrong

__all__ = ["Exercise", "ExerciseSheet", "Wrong"]
