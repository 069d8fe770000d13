#!/usr/bin/env python3
"""Train a detector: detect train."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from detect.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
