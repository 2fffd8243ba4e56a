"""Trained networks in use: checkpoint, predictor, attribution, ONNX."""
