"""What Clerk told us: received, kept once, worked in the background."""
