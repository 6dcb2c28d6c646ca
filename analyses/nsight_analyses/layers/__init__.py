"""What the engine's layers and kernels are: reformats, missed fusions, quantization, work off the Tensor Cores."""
