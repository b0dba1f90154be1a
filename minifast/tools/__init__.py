"""Small helpers that the core uses. You can skip them at first."""
