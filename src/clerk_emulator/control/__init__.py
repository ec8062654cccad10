"""The desk below /_emulator/: what a tester sets, seeds, breaks and looks at."""
