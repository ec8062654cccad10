"""Svix-compatible webhooks: signing, delivery, retries and the delivery log."""
