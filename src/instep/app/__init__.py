"""The doors: settings, wiring, web, worker and command line."""
