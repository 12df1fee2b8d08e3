"""The pages of audit: the security log, and webhooks."""
