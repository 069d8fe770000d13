"""Networks: backbones, feature pyramid, anchors, RPN, RoI heads, and the detector that consists of them."""
