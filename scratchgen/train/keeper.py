"""A program that waits for the one that started it, and says something if that was killed.

    python keeper.py WORDS          standard input: a pipe, which ends without a word if its other end was killed
"""

import signal
import sys

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if not sys.stdin.read(1):
        sys.stderr.write(f"{sys.argv[1]}\n")
