"""The networks: backbones, feature pyramid, anchors, heads, and the detector made of them."""
