"""The people and the tenants: users, organizations, memberships, projects, environments."""
