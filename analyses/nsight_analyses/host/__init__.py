"""The host's side of an inference: launches, gaps between kernels, graphs, allocations, and what it does between."""
