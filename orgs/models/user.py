from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.db import models
from django.db.models.functions import Lower

from orgs import ids


class StaffRole(models.TextChoices):
    """What an operator's employee may do beside an organization's own roles."""

    NONE = "", "none"
    SUPPORT = "support", "support"


class UserManager(BaseUserManager["User"]):
    """Make people; used by `orgs.services` and by `createsuperuser` alone."""

    use_in_migrations = True

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, **{"is_superuser": True, **fields})

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


def new_user_id() -> str:
    return ids.new("usr")


class User(AbstractBaseUser, PermissionsMixin):
    """A person, who signs in by e-mail address and belongs to any number of organizations."""

    id = models.CharField(primary_key=True, max_length=32, default=new_user_id, editable=False)
    email = models.EmailField("e-mail", max_length=254, unique=True)
    name = models.CharField(max_length=100, blank=True)
    is_active = models.BooleanField("may sign in", default=True)
    staff_role = models.CharField(max_length=16, choices=StaffRole, default=StaffRole.NONE, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    class Meta:
        ordering = ("email",)
        constraints = (
            models.CheckConstraint(condition=models.Q(email=Lower("email")), name="user_email_lower"),
        )

    def __str__(self) -> str:
        return self.name or self.email

    @property
    def is_staff(self) -> bool:
        """Only superusers see the admin site; support staff have the console."""
        return self.is_superuser

    def get_short_name(self) -> str:
        return self.name or self.email
