"""The shapes on the wire: what is kept, as the JSON that Clerk would answer, and requests, checked."""
