"""Mail that the ledger's entries cause: how far each ledger is read, and one row for each mail to one person."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

MAX_SUBJECT, MAX_ERROR = 200, 200


class NoticeCursor(models.Model):
    """The last entry of a ledger that mail was made of, or passed over. -1 stands before the first."""

    organization_id = models.CharField(max_length=64, primary_key=True)
    epoch = models.SmallIntegerField(default=1)
    index = models.BigIntegerField(default=-1)

    class Meta:
        db_table = "audit_noticecursor"

    def __str__(self) -> str:
        return f"{self.organization_id} {self.epoch}-{self.index}"


class Mail(models.Model):
    """One mail to one person about one entry, or about many of a kind, of which it names the first.

    No address is kept: it is looked up when the mail goes, and whoever has lost their standing gets none. `roles`
    are those for which the person gets it, in the whole organization or at the project `project_id`; none where it
    concerns the person themselves, as a key's owner.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        # The person has no standing any more.
        DROPPED = "dropped"
        GIVEN_UP = "given_up"

    organization_id = models.CharField(max_length=64)
    epoch = models.SmallIntegerField()
    index = models.BigIntegerField()
    user_id = models.CharField(max_length=64)
    act = models.CharField(max_length=64)
    roles = ArrayField(models.CharField(max_length=16), default=list)
    project_id = models.CharField(max_length=64, blank=True, default="")
    subject = models.CharField(max_length=MAX_SUBJECT)
    text = models.TextField()
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    # Of the last attempt: what the mail server said, without addresses.
    error = models.CharField(max_length=MAX_ERROR, blank=True)
    created_at = models.DateTimeField()
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "audit_mail"
        constraints = (
            models.UniqueConstraint(
                fields=["organization_id", "epoch", "index", "user_id"], name="audit_mail_once"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=["waiting", "sent", "dropped", "given_up"]),
                name="audit_mail_state",
            ),
        )
        indexes = (
            models.Index(fields=["due_at"], condition=models.Q(state="waiting"), name="audit_mail_waiting"),
            models.Index(
                fields=["created_at"], condition=models.Q(state="given_up"), name="audit_mail_given_up"
            ),
            models.Index(fields=["created_at"], name="audit_mail_age"),
        )

    def __str__(self) -> str:
        return f"{self.organization_id} {self.index} {self.user_id} {self.state}"
