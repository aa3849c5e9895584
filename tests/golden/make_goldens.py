"""Makes the golden files of this folder with public implementations; see README.md.

Usage: python tests/golden/make_goldens.py [part …]     (all parts by default)
"""

import argparse
import importlib

import torch

PARTS = ("dit", "vae", "t5", "tokenizer", "noise", "sigma", "formats", "lora", "lora_kinds",
         "quality", "sparsity", "step_skipping", "blocks", "gguf_files")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of: {', '.join(PARTS)}")
    parts = parser.parse_args().parts or PARTS
    unknown = set(parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {sorted(unknown)[0]!r}; the parts are {', '.join(PARTS)}")
    torch.set_num_threads(1)  # sums in one order, so that a second run writes the same bytes
    for part in parts:
        importlib.import_module(f"generators.{part}").generate()


if __name__ == "__main__":
    main()
