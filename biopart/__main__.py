"""``python -m biopart``: the command line."""

from biopart.cli import main

if __name__ == "__main__":
    main()
