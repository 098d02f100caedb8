"""`python -m qsjax` is the command `qsjax`."""

from qsjax.cli import main

if __name__ == "__main__":
    main()
