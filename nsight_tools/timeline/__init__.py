"""What many analyses need: intervals, attribution, inferences. Works on NumPy columns; no I/O."""
