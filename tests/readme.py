# SPDX-License-Identifier: Apache-2.0
"""Runs what README has to paste, as printed, against the demo that `make demo` has started:

    python3 tests/readme.py SECTION...
"""

import json
import pathlib
import subprocess
import sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def commands(section):
    """The commands of a section, those below its own headings included."""
    text = README.read_text().partition(f"# {section}\n")
    level = len(text[0]) - len(text[0].rstrip("#")) + 1
    lines = []
    for line in text[2].splitlines():
        if line.startswith("#") and len(line) - len(line.lstrip("#")) <= level:
            break
        if line.startswith("    "):
            lines.append(line[4:])
    if not lines:
        sys.exit(f"README has nothing to paste in a section: {section}")
    return "\n".join(lines)


def main():
    said = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", "\n".join(map(commands, sys.argv[1:]))],
        cwd=README.parent, text=True, stdout=subprocess.PIPE, check=True).stdout
    print(said, end="")
    answers = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    rows = [line for line in said.splitlines() if line.startswith('"')]
    failed = [answer for answer in answers
              if {"error", "errors", "code", "statusCode"} & set(answer)]
    if failed or len(answers) != 4 or not any("jane@example.org" in row for row in rows):
        sys.exit("This is not what README promises.")


if __name__ == "__main__":
    main()
