"""The demo's data: the operator and three customers of a network-operations API, made through the services."""

from portal.demo_data.making import Document, has_customers, make, refresh

__all__ = ["Document", "has_customers", "make", "refresh"]
