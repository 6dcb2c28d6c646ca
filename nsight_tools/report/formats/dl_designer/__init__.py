"""dl-designer: what each ONNX node costs, for Nsight Deep Learning Designer, into a folder."""
