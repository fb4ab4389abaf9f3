"""Prints, as the last lines of `make test`, how many tests ran; fails when one was skipped or none ran.

Usage: summary.py NEXTEST-LOG
"""

import re
import sys
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
SUMMARY = re.compile(r"(\d+) tests? run: (\d+) passed(?:.*?(\d+) failed)?(?:.*?(\d+) timed out)?(?:.*?(\d+) skipped)?")


def main() -> int:
    log = COLOURS.sub("", Path(sys.argv[1]).read_text(encoding="utf-8"))
    found = list(SUMMARY.finditer(log))
    if not found:
        print("no test ran: the runner printed no summary", file=sys.stderr)
        return 1
    ran, passed, failed, timed_out, skipped = (int(group or 0) for group in found[-1].groups())
    print(f"{passed} passed, {failed + timed_out} failed")
    print(f"tests: {ran}")
    print(f"skipped: {skipped}")
    if ran == 0 or passed != ran or skipped:
        print("every test must run and pass: a missing tool is a failure, never a skip", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
