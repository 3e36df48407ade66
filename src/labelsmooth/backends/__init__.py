"""Backends, which compute row statistics and their gradients; `contract` says what they share."""
