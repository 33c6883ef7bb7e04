"""The words of autofit as frozen values; standard library only."""
