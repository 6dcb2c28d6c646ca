"""Analyses of TensorRT traces: a family a folder, a rule a file named by its code and subject."""
