from django.apps import AppConfig
from django.contrib.admin import apps as admin_apps


class PortalConfig(AppConfig):
    name = "portal"
    verbose_name = "Portal"
    default = True


class AdminConfig(admin_apps.AdminConfig):
    """Django's admin site with our own rules."""

    default = False
    default_site = "portal.admin_site.Site"
