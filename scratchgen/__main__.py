"""`python -m scratchgen`: the command line."""

from scratchgen.cli import main

main()
