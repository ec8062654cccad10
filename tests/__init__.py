"""The tests of this repository, importable as `tests` so that they can share `tests.support`."""
