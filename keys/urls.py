from django.urls import path, register_converter

from keys.views import (
    approvals,
    breakglass,
    bulk,
    creation,
    detail,
    hygiene,
    incidents,
    listing,
    permissions,
    recipients,
    revocation,
    rotation,
    rotations,
    settings,
    usage,
)


class KeyIdConverter:
    """The id of a key: nothing else reaches the database, and no other path is taken for a key."""

    regex = "key_[a-z2-7]{20}"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


class RotationIdConverter(KeyIdConverter):
    """The id of a rotation."""

    regex = "rot_[a-z2-7]{20}"


class RecipientIdConverter(KeyIdConverter):
    """The id of a recipient's public key."""

    regex = "rcp_[a-z2-7]{20}"


class ApprovalIdConverter(KeyIdConverter):
    """The id of an approval."""

    regex = "apr_[a-z2-7]{20}"


class ExecutionIdConverter(KeyIdConverter):
    """The id of an execution."""

    regex = "exe_[a-z2-7]{20}"


class IncidentIdConverter(KeyIdConverter):
    """The id of an incident."""

    regex = "inc_[a-z2-7]{20}"


register_converter(ApprovalIdConverter, "approval")
register_converter(ExecutionIdConverter, "execution")
register_converter(KeyIdConverter, "key")
register_converter(RotationIdConverter, "rotation")
register_converter(IncidentIdConverter, "incident")
register_converter(RecipientIdConverter, "recipient")

app_name = "keys"
urlpatterns = [
    path("", listing.key_list, name="list"),
    path("keys/search", listing.key_search, name="search"),
    path("keys/bulk", bulk.keys_bulk, name="bulk"),
    path("keys.csv", listing.keys_csv, name="csv"),
    path("hygiene", hygiene.key_hygiene, name="hygiene"),
    path("keys/new", creation.key_new, name="new"),
    path("keys/new/preview", creation.key_preview, name="preview"),
    path("keys/<key:key_id>", detail.key_detail, name="detail"),
    path("approvals", approvals.approval_list, name="approvals"),
    path("approvals/new", approvals.approval_new, name="approval_new"),
    path("approvals/<approval:approval_id>", approvals.approval_detail, name="approval"),
    path("approvals/<approval:approval_id>/grant", approvals.approval_grant, name="approval_grant"),
    path("approvals/<approval:approval_id>/deny", approvals.approval_deny, name="approval_deny"),
    path("executions/<execution:execution_id>", approvals.execution_detail, name="execution"),
    path("trace", approvals.trail_page, name="trail"),
    path("usage", usage.usage_page, name="usage"),
    path("usage.csv", usage.usage_csv, name="usage_csv"),
    path("keys/<key:key_id>/usage", usage.key_usage, name="key_usage"),
    path("keys/<key:key_id>/activity", detail.key_activity, name="activity"),
    path("keys/<key:key_id>/access", permissions.key_access, name="access"),
    path("keys/<key:key_id>/access/drop", permissions.key_drop_scopes, name="drop_scopes"),
    path("keys/<key:key_id>/edit", detail.key_edit, name="edit"),
    path("keys/<key:key_id>/edit/scopes", detail.key_edit_scopes, name="edit_scopes"),
    path("keys/<key:key_id>/edit/limits", detail.key_edit_limits, name="edit_limits"),
    path("keys/<key:key_id>/edit/rotation", detail.key_edit_rotation, name="edit_rotation"),
    path("keys/<key:key_id>/bind", approvals.key_bind, name="bind"),
    path("keys/<key:key_id>/rotate", rotation.key_rotate, name="rotate"),
    path("keys/<key:key_id>/rotate/preview", rotation.key_rotate_preview, name="rotate_preview"),
    path("rotations", rotations.rotation_list, name="rotations"),
    path("rotations/<rotation:rotation_id>", rotations.rotation_detail, name="rotation"),
    path("rotations/<rotation:rotation_id>/complete", rotations.rotation_complete, name="rotation_complete"),
    path("rotations/<rotation:rotation_id>/cancel", rotations.rotation_cancel, name="rotation_cancel"),
    path("keys/<key:key_id>/revoke", revocation.key_revoke, name="revoke"),
    path("keys/<key:key_id>/disable", revocation.key_disable, name="disable"),
    path("keys/<key:key_id>/enable", revocation.key_enable, name="enable"),
    path("break-glass", breakglass.break_glass, name="break_glass"),
    path("break-glass/impact", breakglass.break_glass_impact, name="break_glass_impact"),
    path("incidents", incidents.incident_list, name="incidents"),
    path("incidents/<incident:incident_id>", incidents.incident_page, name="incident"),
    path("incidents/<incident:incident_id>.csv", incidents.incident_csv, name="incident_csv"),
    path("settings/policies", settings.policies, name="policies"),
    path("settings/recipients", recipients.recipients, name="recipients"),
    path("settings/recipients/new", recipients.recipient_register, name="recipient_register"),
    path(
        "settings/recipients/<recipient:recipient_id>/confirm",
        recipients.recipient_confirm,
        name="recipient_confirm",
    ),
    path(
        "settings/recipients/<recipient:recipient_id>/remove",
        recipients.recipient_remove,
        name="recipient_remove",
    ),
    path("settings/scopes", settings.scopes, name="scopes"),
    path("settings/plan", settings.plan, name="plan"),
]
