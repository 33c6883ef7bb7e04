"""What every story is told with."""

from tests.shared_answers import shared_answers

__all__ = ["shared_answers"]
