import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portal import dsn

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAMES = TEXT.filter(bool)


def test_reads_every_part_of_a_url():
    entry = dsn.parse("postgresql://ada:p%40ss@db.example:6432/keys?sslmode=verify-full&connect_timeout=3")
    assert entry == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "keys",
        "USER": "ada",
        "PASSWORD": "p@ss",
        "HOST": "db.example",
        "PORT": "6432",
        "OPTIONS": {"sslmode": "verify-full", "connect_timeout": 3},
    }


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgres:///keys", "", ""),
        ("postgres://ada@/keys?host=/run/pg&port=5433", "/run/pg", "5433"),
        ("postgres://ada@/keys?host=%2Frun%2Fpg", "/run/pg", ""),
        ("postgres://ada@%2FRun%2Fpg:5433/keys", "/Run/pg", "5433"),
        ("postgres://ada@[2001:db8::1]:5433/keys", "2001:db8::1", "5433"),
        ("postgres://ada@[2001:db8::1]/keys", "2001:db8::1", ""),
    ],
)
def test_reads_where_the_server_is(url, host, port):
    entry = dsn.parse(url)
    assert (entry["HOST"], entry["PORT"], entry["NAME"]) == (host, port, "keys")


def test_options_keep_their_equals_sign_and_plus():
    assert dsn.parse("postgres:///k?options=-c%20role=keystead_owner")["OPTIONS"] == {
        "options": "-c role=keystead_owner"
    }
    assert dsn.parse("postgres:///k?application_name=a+b")["OPTIONS"] == {"application_name": "a+b"}


def test_defaults_yield_to_the_url():
    entry = dsn.parse(
        "postgres:///k?application_name=mine", "X", application_name="keystead", sslmode="require"
    )
    assert entry["OPTIONS"] == {"application_name": "mine", "sslmode": "require"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mysql://ada:SECRET@db/keys",
        "ada:SECRET@db/keys",
        "postgres:ada:SECRET@db/keys",
        "postgres://ada:SECRET@db",
        "postgres://ada:SECRET@db/",
        "postgres://ada:SECRET@db/a/b",
        "postgres://ada:SECRET@db:port/keys",
        "postgres://ada:SECRET@db:0/keys",
        "postgres://ada:SECRET@db:65536/keys",
        "postgres://ada:SECRET@db:²/keys",
        "postgres://ada:SECRET@db,db2/keys",
        "postgres://ada:SECRET@[::1/keys",
        "postgres://ada:SECRET@[::1]5432/keys",
        "postgres://:SECRET@db/keys",
        "postgres://ada:SECRET@SECRET@db/keys",
        "postgres://ada:SECRET:SECRET@db/keys",
        "postgres://ada:%SECRET@db/keys",
        "postgres://ada:SECRET%0@db/keys",
        "postgres://ada:SECRET%FF@db/keys",
        "postgres://ada:SECRET%00@db/keys",
        "postgres://ada:SECRET SECRET@db/keys",
        "postgres://ada:SECRET@db/keys\n",
        "postgres://ada:SECRET#SECRET@db/keys",
        "postgres://ada:pa/SECRET@db/keys",
        "postgres://ada:pa?SECRET@db/keys",
        "postgres://ada:pa?SECRET=SECRET@db/keys",
        "postgres://ada:SECRET@db/keys?passfile=/SECRET",
        "postgres://ada:SECRET@db/keys?host=a&host=b",
        "postgres://ada:SECRET@db/keys?connect_timeout=SECRET",
        "postgres://ada:SECRET@db/keys?port=SECRET",
    ],
)
def test_what_is_wrong_is_one_line_without_the_password(url):
    with pytest.raises(dsn.DsnError) as caught:
        dsn.parse(url, "DATABASE_VERIFY_URL")
    message = str(caught.value)
    assert message.startswith("DATABASE_VERIFY_URL ")
    assert "\n" not in message
    assert "SECRET" not in message
    assert caught.value.__context__ is None, "a traceback would print the cause too"


@given(
    NAMES,
    TEXT,
    st.one_of(st.sampled_from(["", "db.example", "::1", "10.0.0.7"]), TEXT.map(lambda text: f"/{text}")),
    st.sampled_from(["", "1", "65535"]),
    NAMES.filter(lambda name: "," not in name),
    st.dictionaries(st.sampled_from(["options", "sslmode", "application_name"]), TEXT),
)
def test_what_is_built_reads_back_the_same(user, password, host, port, dbname, options):
    url = dsn.build(user=user, password=password, host=host, port=port, dbname=dbname, options=options)
    entry = dsn.parse(url)
    assert (
        entry["USER"],
        entry["PASSWORD"],
        entry["HOST"],
        entry["PORT"],
        entry["NAME"],
        entry["OPTIONS"],
    ) == (
        user,
        password,
        host,
        port,
        dbname,
        options,
    )


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_our_words(text):
    with contextlib.suppress(dsn.DsnError):
        assert dsn.parse(f"postgres://{text}")["NAME"]


def test_build_refuses_a_url_without_a_database():
    with pytest.raises(dsn.DsnError):
        dsn.build(user="ada", host="db")


def test_replaced_changes_only_what_it_is_given():
    url = "postgres://ada:p%40ss@/keys?host=/run/pg&options=-c%20role=x"
    assert dsn.parse(dsn.replaced(url, dbname="other")) == dsn.parse(url) | {"NAME": "other"}
