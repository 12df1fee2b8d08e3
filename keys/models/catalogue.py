from django.contrib.postgres.fields import ArrayField
from django.db import models

from keys.secret import Kind
from orgs.roles import Risk


class Scope(models.Model):
    """One scope that keys may carry: the operator's catalogue, the same for every organization."""

    name = models.CharField(primary_key=True, max_length=65)
    description = models.CharField(max_length=200, blank=True)
    kinds = ArrayField(models.CharField(max_length=16, choices=[(kind.value, kind.value) for kind in Kind]))
    risk = models.CharField(max_length=8, choices=[(risk.value, risk.value) for risk in Risk])
    is_deprecated = models.BooleanField(default=False)
    is_builtin = models.BooleanField(default=False, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(name__regex=r"^[a-z][a-z0-9_-]{0,31}:[a-z*][a-z0-9_*-]{0,31}$"),
                name="scope_form",
            ),
            models.CheckConstraint(
                condition=models.Q(risk__in=[risk.value for risk in Risk]), name="scope_risk"
            ),
        )

    def __str__(self) -> str:
        return self.name
