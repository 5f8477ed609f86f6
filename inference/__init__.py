"""Policy bundle, ONNX runtime, temporal ensembling, policy worker. No torch."""
