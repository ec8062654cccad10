"""The parts put together, and served."""
