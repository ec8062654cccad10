"""The unified list of members and pending invitations."""
