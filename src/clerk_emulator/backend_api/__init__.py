"""The Backend API: one module per resource, each with the handlers of its operations."""
