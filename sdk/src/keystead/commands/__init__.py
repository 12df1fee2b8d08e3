"""The commands that do more than one call: rotating a secret in a file, opening a sealed one, scanning for leaks."""
