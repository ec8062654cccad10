"""What Clerk knows, and the laws it keeps: pure, in memory, without the web."""
