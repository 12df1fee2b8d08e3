"""The keys and what belongs to them: secrets, rotations, policies, the scope catalogue, evidence of use."""

from keys.models.catalogue import Scope
from keys.models.idempotency import IdempotencyRecord
from keys.models.key import ApiKey, ApiKeyQuerySet, OwnerType
from keys.models.policy import KeyPolicy
from keys.models.secret import KeySecret, Rotation
from keys.models.use import KeyUse, SecretUse

__all__ = [
    "ApiKey",
    "ApiKeyQuerySet",
    "IdempotencyRecord",
    "KeyPolicy",
    "KeySecret",
    "KeyUse",
    "OwnerType",
    "Rotation",
    "Scope",
    "SecretUse",
]
