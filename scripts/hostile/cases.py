"""The list of files, and the folder of the fixtures."""

from pathlib import Path

FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures"
CASES = {}


def case(name, kind="hostile"):
    """Registers a function that returns the bytes of a file."""

    def register(make):
        CASES[name] = (kind, make)
        return make

    return register
