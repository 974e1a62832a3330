"""Names of the files that a converted model is known by; its engines demand them."""

OPENVINO_XML = "openvino_model.xml"
OPENVINO_BIN = "openvino_model.bin"
GENAI_CONFIG = "genai_config.json"
