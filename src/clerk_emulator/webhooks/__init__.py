"""Webhooks as Svix sends them: signing, delivering, trying again, and the log."""
