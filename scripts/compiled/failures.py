"""What a command could not do: it goes on with the rest, and names it at its end."""

import sys


class Failures:
    """The names of what failed, of which there are several `kind`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.names: list[str] = []

    def add(self, name: str, error: Exception) -> None:
        """Note that `name` failed, and print why."""
        self.names.append(name)
        print(f"{name}: {type(error).__name__}: {str(error)[:600]}", flush=True)

    def status(self) -> int:
        """The exit status: 1, and a sentence that names what failed, if something did."""
        if self.names:
            names = "; ".join(self.names)
            said = f"These {self.kind} failed ({len(self.names)}): {names}."
            print(said, file=sys.stderr, flush=True)
        return int(bool(self.names))
