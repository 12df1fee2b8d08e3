"""The support console: what staff have open, and the search across every organization's entries."""
