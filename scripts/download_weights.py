#!/usr/bin/env python3
"""Downloads Mochi 1 for this program, called as genmo's script of this name:
download_weights.py DIR [--fast_model] [--hf_transfer]. It runs `mochi download`."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

BUILT = Path(__file__).resolve().parent.parent / "build" / "bin" / "mochi"


def find_program():
    return str(BUILT) if os.access(BUILT, os.X_OK) else shutil.which("mochi")


def main():
    parser = argparse.ArgumentParser(description="Download Mochi 1's weights with `mochi download`.")
    parser.add_argument("output_dir", help="folder to download into")
    parser.add_argument("--fast_model", action="store_true",
                        help="also FastMochi's transformer, as dit.fast.safetensors")
    parser.add_argument("--hf_transfer", action="store_true",
                        help="accepted and ignored: several connections are always used")
    given = parser.parse_args()
    program = find_program()
    if program is None:
        print(f"download_weights.py: neither {BUILT} nor a mochi in PATH exists; ./run.sh builds it",
              file=sys.stderr)
        return 1
    for name in ["mochi-1-preview"] + (["fastmochi"] if given.fast_model else []):
        # A name that begins with a dash is no flag.
        status = subprocess.run([program, "download", "--", name, given.output_dir]).returncode
        if status != 0:
            return status if status > 0 else 128 - status
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
