"""The keys and what belongs to them: secrets, rotations, policies, the scope catalogue, evidence of use."""

from keys.models.catalogue import Scope
from keys.models.finding import Finding, HealthRun, KeyFinding
from keys.models.governance import Approval, ApprovalSpend, ApprovalUse, Execution
from keys.models.idempotency import IdempotencyRecord
from keys.models.incident import Incident, IncidentKey, IncidentKind
from keys.models.key import ApiKey, ApiKeyQuerySet, OwnerType
from keys.models.leak import Leak, LeakAction, LeakOutcome, LeakSource
from keys.models.network import KeyNetwork
from keys.models.notice import KeyDue, Notice
from keys.models.policy import KeyPolicy
from keys.models.recipient import Recipient
from keys.models.rotation import Rotation, RotationSeen, RotationTarget, RotationUse
from keys.models.secret import KeySecret
from keys.models.tier import Tier
from keys.models.usage import Call, Grain, ScopeUse, UnknownCalls, Usage
from keys.models.use import KeyUse, OrganizationSpend, SecretUse

__all__ = [
    "ApiKey",
    "ApiKeyQuerySet",
    "Approval",
    "ApprovalSpend",
    "ApprovalUse",
    "Call",
    "Execution",
    "Finding",
    "Grain",
    "HealthRun",
    "IdempotencyRecord",
    "Incident",
    "IncidentKey",
    "IncidentKind",
    "KeyDue",
    "KeyFinding",
    "KeyNetwork",
    "KeyPolicy",
    "KeySecret",
    "KeyUse",
    "Leak",
    "LeakAction",
    "LeakOutcome",
    "LeakSource",
    "Notice",
    "OrganizationSpend",
    "OwnerType",
    "Recipient",
    "Rotation",
    "RotationSeen",
    "RotationTarget",
    "RotationUse",
    "Scope",
    "ScopeUse",
    "SecretUse",
    "Tier",
    "UnknownCalls",
    "Usage",
]
