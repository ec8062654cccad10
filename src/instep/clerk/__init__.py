"""The one adapter to Clerk: its JSON, its API, its webhooks, its session tokens."""
