"""Measures how good a pack is, with the code that users run: ``docs/evaluation.md``. No torch."""
