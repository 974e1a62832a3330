"""A back end that writes ONNX Runtime GenAI directories. `model.py` draws the graph and needs the onnx package."""
