#!/usr/bin/env python3
"""Checks the word list of CONTRIBUTING.md: how comments begin, and words that have better ones."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

CODE = (".h", ".cpp", ".cu", ".cuh")
# A comment that begins so is a fragment whose subject stands elsewhere.
FRAGMENT = re.compile(r"(Of|What|Whether|The same|How much)\b(?!\?)", re.IGNORECASE)
# Word → what to write instead. Only words that are wrong wherever they stand.
BETTER = {
    r"doubts?": "warning",
    r"boxed": "bundled",
    r"in the box": "bundled",
    r"anew": "again",
    r"in the mean": "on average",
    r"null branch": "unconditional branch",
    r"takes? memory": "allocates",
    r"(?:is|are) there already": "already exists",
    r"go(?:es)? on with": "continues with",
    r"shall not": "must not",
}
BETTER = {re.compile(rf"\b{word}\b", re.IGNORECASE): better for word, better in BETTER.items()}


def comment_starts(lines: list[str]) -> list[tuple[int, str]]:
    """Line number and text of each comment's first line; later lines of a block are left out."""
    starts, in_block = [], False
    for number, line in enumerate(lines, 1):
        code, slashes, text = line.partition("//")
        is_comment = bool(slashes) and code.count('"') % 2 == 0
        if is_comment and not (in_block and not code.strip()):
            starts.append((number, text.strip()))
        in_block = is_comment and (not code.strip() or in_block)
    return starts


def findings(path: pathlib.Path) -> list[tuple[int, str]]:
    lines = path.read_text().splitlines()
    found = []
    if path.suffix in CODE:
        found += [(number, f"a comment begins with '{begin[0]}'")
                  for number, text in comment_starts(lines) if (begin := FRAGMENT.match(text))]
    for number, line in enumerate(lines, 1):
        found += [(number, f"'{hit[0]}': write '{better}'")
                  for word, better in BETTER.items() if (hit := word.search(line))]
    return sorted(found)


def checked_files() -> list[pathlib.Path]:
    files = [path for folder in ("src", "include") for path in (ROOT / folder).rglob("*")
             if path.suffix in CODE]
    files += [path for folder in ("docs", "bench", "training", "models", "tests")
              for path in (ROOT / folder).rglob("*.md")]
    # CONTRIBUTING.md names the words.
    return sorted(files + [ROOT / "README.md", ROOT / "CHANGELOG.md"])


def main() -> int:
    num_found = 0
    for path in checked_files():
        for number, problem in findings(path):
            num_found += 1
            print(f"{path.relative_to(ROOT).as_posix()}:{number}: {problem}", file=sys.stderr)
    print(f"english: {num_found} finding(s)")
    return 1 if num_found else 0


if __name__ == "__main__":
    sys.exit(main())
