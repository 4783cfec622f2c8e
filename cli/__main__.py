"""`python -m instructedit.cli` is the command `instructedit`."""

from .start import main

if __name__ == "__main__":
    main()
