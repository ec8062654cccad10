"""What happened: operations that are open or ended, and the audit."""
