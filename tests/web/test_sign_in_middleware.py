import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from audit import tenancy
from orgs.models import Membership, User
from tests import builders

PASSWORD = "a password of some length"


class TestExpiredSession:
    def test_a_page_redirects(self):
        response = Client().get("/keys/new")
        assert (response.status_code, response["Location"]) == (302, "/login?next=/keys/new")

    def test_htmx_goes_there_with_the_whole_window(self):
        headers = {"HTTP_HX_REQUEST": "true", "HTTP_HX_CURRENT_URL": "http://testserver/?kind=service"}
        response = Client().get("/?kind=service&cursor=x", **headers)
        assert response.status_code == 200
        assert response["HX-Redirect"] == "/login?next=%2F%3Fkind%3Dservice"
        assert response.content == b""


class TestCreateSuperuser:
    def make(self, monkeypatch, email: str, password: str = PASSWORD) -> None:
        monkeypatch.setattr("sys.stdin", FakeInput(password))
        call_command("createsuperuser", email, name="Root", verbosity=0)

    def test_it_makes_an_owner_of_the_operators_organization_and_records_it(self, monkeypatch, capsys):
        builders.person()
        email = f"{builders.unique('root')}@example.com"
        with tenancy.everywhere(tenancy.Reason.COMMAND):
            operator = tenancy.operator_id()
        with builders.gains(operator, "user.created", "member.joined"):
            self.make(monkeypatch, email)
        user = User.objects.get(email=email)
        with tenancy.within(operator):
            assert Membership.objects.get(user=user).role == "owner"
        assert user.is_superuser
        assert builders.signed_in(user, password=PASSWORD).get("/admin/").status_code == 200

    @pytest.mark.parametrize(
        ("email", "password"), [("not an address", PASSWORD), ("x@example.com", "short")]
    )
    def test_bad_input_is_one_clear_line(self, monkeypatch, email, password):
        with pytest.raises(CommandError):
            self.make(monkeypatch, email, password)

    def test_an_address_that_is_taken(self, monkeypatch):
        user = builders.person()
        with pytest.raises(CommandError):
            self.make(monkeypatch, user.email)


class FakeInput:
    def __init__(self, line: str) -> None:
        self.line = line

    def isatty(self) -> bool:
        return False

    def readline(self) -> str:
        return self.line + "\n"
