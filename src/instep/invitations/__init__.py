"""What we ask of others: invitations."""
