"""What the tests stand on: databases, a browser, and loud skips."""
