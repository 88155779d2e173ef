"""How good a pack is, measured with what users run: ``docs/evaluation.md``. No torch."""
