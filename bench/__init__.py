"""Benches: how fast instep is on this machine, beside what the machine itself can do. Run by `make bench`."""
