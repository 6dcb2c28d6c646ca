"""CUDA streams and the threads that feed them: do they overlap, and if not, what keeps them apart."""
