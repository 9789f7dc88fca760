"""`python -m scratchgen`: the command line."""

from scratchgen.cli import main

if __name__ == "__main__":
    main()
