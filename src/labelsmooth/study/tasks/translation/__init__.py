"""The task of translating sentences."""
