"""Webhook deliveries from Clerk: received, stored once, and processed in the background."""
