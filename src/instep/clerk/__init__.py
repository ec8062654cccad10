"""Adapter to Clerk: its Backend API, webhooks, session tokens and sign-in handshake."""
