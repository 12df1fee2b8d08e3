"""The pages of settings, of joining and of signing in: one function for each URL."""
