"""Analyses of TensorRT traces: one function a code, one module a family."""
