"""What autofit remembers across runs, in one small SQLite file; standard library only."""

from .store import Store, open_store

__all__ = ["Store", "open_store"]
