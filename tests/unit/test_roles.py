import pytest

from orgs.roles import EVERY_RISK, Permission, Risk, Role, ceiling, grantable, highest, may

# spec/PEOPLE.md *Roles*, row by row: owner, admin, developer, auditor, viewer.
TABLE = {
    Permission.KEYS_VIEW: "✓✓✓✓✓",
    Permission.KEYS_CHANGE: "✓✓✓  ",
    Permission.KEYS_BREAK_GLASS: "✓✓   ",
    Permission.APPROVALS_GRANT: "✓✓   ",
    Permission.ORGANIZATION_CONFIGURE: "✓✓   ",
    Permission.MEMBERS_CHANGE: "✓✓   ",
    Permission.OWNERS_CHANGE: "✓    ",
    Permission.ORGANIZATION_OWN: "✓    ",
    Permission.LOG_VIEW: "✓✓ ✓ ",
    Permission.LOG_VIEW_OWN: "✓✓✓✓ ",
}


class TestMay:
    def test_every_permission_has_a_row(self):
        assert set(TABLE) == set(Permission)

    @pytest.mark.parametrize("permission", Permission)
    def test_is_the_table(self, permission):
        assert "".join("✓" if may(role, permission) else " " for role in Role) == TABLE[permission]

    @pytest.mark.parametrize("permission", Permission)
    def test_nobody_may_nothing(self, permission):
        assert not may(None, permission)


class TestRisks:
    def test_ceilings(self):
        assert ceiling(Role.OWNER) == ceiling(Role.ADMIN) == EVERY_RISK
        assert ceiling(Role.DEVELOPER) == {Risk.READ, Risk.WRITE}
        assert ceiling(Role.AUDITOR) == ceiling(Role.VIEWER) == {Risk.READ}
        assert ceiling(None) == frozenset()

    def test_who_makes_no_keys_grants_nothing(self):
        assert grantable(Role.OWNER) == grantable(Role.ADMIN) == EVERY_RISK
        assert grantable(Role.DEVELOPER) == {Risk.READ, Risk.WRITE}
        assert grantable(Role.AUDITOR) == grantable(Role.VIEWER) == grantable(None) == frozenset()


class TestRank:
    def test_falls_from_owner_to_viewer(self):
        assert [role.rank for role in Role] == [5, 4, 3, 2, 1]

    def test_highest(self):
        assert highest([Role.VIEWER, Role.ADMIN, Role.AUDITOR]) is Role.ADMIN
        assert highest([]) is None
