"""Control API and pages below /_emulator/: settings, seeds, clock, faults, mail and snapshots."""
