"""Export of a trained detector to ONNX or OpenVINO, with a parity check."""
