#!/usr/bin/env python3
"""Pascal-VOC folders to COCO JSON: detect convert --from voc --to coco."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", "--from", "voc", "--to", "coco", *sys.argv[1:]]))
