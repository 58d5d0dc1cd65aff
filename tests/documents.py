# SPDX-License-Identifier: Apache-2.0
"""Runs commands of README.md and docs/*.md as printed, against the demo that `make demo` has
started, and compares their output with the output that the document shows:

    python3 tests/documents.py DOCUMENT...

The first line of a block names the program that runs it, by its path from the root:

    ```sh tests/documents.py      one script per document; a failing command fails it
    ```json output                what the block before prints; … stands for any text

A block that no program runs begins with the line "# Not run by CI: REASON", in SQL with --.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [path for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
             if path.name != "CHANGES.md"]
NOT_RUN = "(#|--) Not run by CI: ."
MOST_SECONDS = "900"   # of the commands of a document
END_OF_BLOCK = "--- end of a block"
# The variable with the name of a file that takes a line for each block that is run.
RECORD = "DOCUMENTS_RECORD"

Block = collections.namedtuple("Block", "line language word sections text")


class Wrong(Exception):
    """The output of a document's commands differs from the document; the text describes how."""


def blocks(text):
    """The fenced blocks of a document: number and two words of the first line, headings
    above it, and text."""
    headings, block = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if block and line == "```":
            yield block._replace(text="\n".join(block.text) + "\n")
            block = None
        elif block:
            block.text.append(line)
        elif line.startswith("```"):
            language, _, word = line[3:].partition(" ")
            block = Block(number, language, word, [name for _, name in headings], [])
        elif re.match("#+ ", line):
            level, _, name = line.partition(" ")
            headings = [above for above in headings if above[0] < len(level)]
            headings.append((len(level), name))
    if block:
        raise Wrong(f"line {block.line}: the block has no end")


def chosen(document, section, runner):
    """The blocks of a section, or of the whole document, that a program runs, each with the
    output that the document shows."""
    found = []
    for block in blocks((ROOT / document).read_text()):
        if section and section not in block.sections:
            continue
        if block.word == runner:
            found.append((block, None))
        elif block.word == "output" and found:
            found[-1] = (found[-1][0], block.text)
    if not found:
        raise Wrong(f"{document}: no block for {runner} {section or ''}")
    if os.environ.get(RECORD):
        with open(os.environ[RECORD], "a", encoding="utf-8") as record:
            record.writelines(f"{document}:{block.line}\n" for block, _ in found)
    return found


def commands(document, section=None, runner="tests/documents.py"):
    """The commands as one text."""
    return "".join(block.text for block, _ in chosen(document, section, runner))


def not_run(runner, record):
    """The blocks for a program that are missing from its record."""
    ran = set(pathlib.Path(record).read_text().splitlines())
    named = [f"{path.relative_to(ROOT)}:{block.line}" for path in DOCUMENTS
             for block in blocks(path.read_text()) if block.word == runner]
    return [name for name in named if name not in ran]


def matches(expected, printed):
    pattern = ".*".join(map(re.escape, expected.strip().split("…")))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def run(document, section=None, runner="tests/documents.py", shell=None):
    """Runs the commands of a document in one shell, and returns their output. The argument
    `shell` runs a bash script and returns its output."""
    found = chosen(document, section, runner)
    script = "".join(f"{block.text}printf '\\n{END_OF_BLOCK}\\n'\n" for block, _ in found)
    printed = (shell or local_shell)(script)
    for (block, expected), part in zip(found, printed.split(f"\n{END_OF_BLOCK}\n")):
        if expected and not matches(expected, part):
            raise Wrong(f"{document}:{block.line}: the commands print\n{part}\nand not\n{expected}")
    return printed.replace(f"\n{END_OF_BLOCK}\n", "")


def local_shell(script):
    result = subprocess.run(["timeout", MOST_SECONDS, "bash", "-e", "-o", "pipefail", "-c", script],
                            cwd=ROOT, text=True, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE)
    if result.returncode:
        raise Wrong(f"{result.stdout}\nA command failed: exit status {result.returncode}")
    return result.stdout


def main():
    for document in sys.argv[1:]:
        print(run(document), end="")


if __name__ == "__main__":
    try:
        main()
    except Wrong as error:
        sys.exit(str(error))
