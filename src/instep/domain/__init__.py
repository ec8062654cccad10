"""Pure domain: Clerk's entities, reconciliation, and ports to Clerk. No I/O."""
