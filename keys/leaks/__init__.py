"""Secrets that others know: whose they are, who may say so, and from where keys are used."""
