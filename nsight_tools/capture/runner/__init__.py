"""The processes of a capture that import tensorrt: they build an engine, run it and look into it.

They are started as `PYTHON …/capture/runner TASK.json`, with the Python that has TensorRT, which need not have
nsight-tools. So nothing here imports anything of nsight-tools but its siblings; besides the standard library only
numpy, nvtx, pycuda, cuda.bindings and tensorrt are used.
"""
