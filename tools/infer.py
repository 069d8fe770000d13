#!/usr/bin/env python3
"""Find defects in images: detect infer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.cli import main

if __name__ == "__main__":
    sys.exit(main(["infer", *sys.argv[1:]]))
