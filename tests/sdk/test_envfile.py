"""The writer of variables' files: nothing but the secret changes, whatever the file looks like."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from keystead import ConfigurationError, envfile
from keystead.secret import check, has_checksum, is_wellformed

NAME = "KEYSTEAD_API_KEY"


def secret(letter: str, kind: str = "sv") -> str:
    body = f"ks_{kind}_live_{letter * 43}".encode()
    return (body + check(body)).decode()


OLD, NEW, OTHER = secret("a"), secret("b"), secret("c")


class TestSecrets:
    @pytest.mark.parametrize(
        ("body", "checksum"),
        [
            (b"akp_svc_live_" + b"0" * 43, b"4Fahlp"),
            (b"akp_ctl_test_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg", b"2ka4p1"),
        ],
    )
    def test_known_answers(self, body, checksum):
        assert check(body) == checksum

    def test_one_changed_character_is_found(self):
        assert is_wellformed(OLD)
        for at in range(len(OLD)):
            wrong = OLD[:at] + ("z" if OLD[at] != "z" else "y") + OLD[at + 1 :]
            assert not is_wellformed(wrong)
        assert not is_wellformed(OLD + "\n")
        assert not is_wellformed(OLD.replace("a", "\u0430", 1))


@pytest.mark.parametrize(
    "line",
    [
        f"{NAME}={{}}",
        f"export {NAME}={{}}",
        f"  export\t{NAME}='{{}}'",
        f'{NAME}="{{}}"',
        f"{NAME} = {{}}",
        f"{NAME}={{}}   # the service's own, not {OTHER}",
        f"{NAME}='{{}}' # quoted",
        f"{NAME}={{}}; export {NAME}",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", ""])
@pytest.mark.parametrize(
    "before", ["", "\ufeff", "A=1\n\n# a comment\n", "P='one\nKEYSTEAD_API_KEY=inside\n'\n"]
)
def test_the_secret_alone_changes(line, end, before):
    content = (before + line + end).format(OLD)
    assert envfile.secret_of(content.encode(), [NAME]) == OLD
    changed = envfile.with_secret(content.encode(), [NAME], NEW, instead_of=OLD)
    assert changed.decode() == content.replace(OLD, NEW)


def test_a_comment_keeps_what_it_says():
    content = f"#{NAME}={OLD}\n{NAME}={OLD}\n".encode()
    assert envfile.with_secret(content, [NAME], NEW) == f"#{NAME}={OLD}\n{NAME}={NEW}\n".encode()


def test_of_several_the_last_counts_and_all_that_were_equal_change():
    content = f"{NAME}={OLD}\n{NAME}={OTHER}\n{NAME}={OLD}\n".encode()
    assert envfile.secret_of(content, [NAME]) == OLD
    changed = envfile.with_secret(content, [NAME], NEW, instead_of=OLD)
    assert changed == f"{NAME}={NEW}\n{NAME}={OTHER}\n{NAME}={NEW}\n".encode()


def test_two_variables_with_one_secret():
    content = f"{NAME}={OLD}\nKEYSTEAD_KEY={OLD}\n".encode()
    with pytest.raises(ConfigurationError, match="KEYSTEAD_KEY holds the same"):
        envfile.secret_of(content, [NAME])
    names = [NAME, "KEYSTEAD_KEY"]
    assert envfile.secret_of(content, names) == OLD
    assert OLD.encode() not in envfile.with_secret(content, names, NEW, instead_of=OLD)
    with pytest.raises(ConfigurationError, match="different"):
        envfile.secret_of(content.replace(OLD.encode(), OTHER.encode(), 1), names)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "not set"),
        (f"# {NAME}={OLD}", "not set"),
        (f"{NAME}=", "no key"),
        (f"{NAME}=${{SECRET}}", "no key"),
        (f"{NAME}={OLD}x", "no key"),
        (f"{NAME}='{OLD}", "no key"),
        (f"OTHER={OLD}", "give --name OTHER"),
        (f"X='\n{NAME}={OLD}\n'", "not set"),
    ],
)
def test_what_holds_no_key_is_said_without_a_value(content, says):
    with pytest.raises(ConfigurationError, match=says) as caught:
        envfile.secret_of(content.encode(), [NAME])
    assert "aaaaaa" not in str(caught.value)


@pytest.mark.parametrize("bad", ["", "x", OLD + "\nEVIL=1", f"{OLD}'", "$(reboot)", OLD[:-1]])
def test_nothing_else_is_ever_written(bad):
    with pytest.raises(ValueError, match="no key") as caught:
        envfile.with_secret(f"{NAME}={OLD}".encode(), [NAME], bad)
    assert "aaaaaa" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "end"), [("A=1", "\n"), ("A=1\r\nB=2", "\r\n"), ("A=1\n", "\n"), ("", "\n")]
)
def test_a_variable_that_is_not_there_is_added(content, end):
    changed = envfile.with_secret(content.encode(), [NAME], NEW).decode()
    assert changed.startswith(content)
    assert changed.endswith(f"{NAME}={NEW}{end}")
    assert envfile.secret_of(changed.encode(), [NAME]) == NEW


LINES = st.one_of(
    st.sampled_from(
        [
            "",
            "#",
            f"#{NAME}={OTHER}",
            "A=1",
            "export B='two'",
            'C="th\\"ree"',
            "D=é",
            f"{NAME}_OLD={OTHER}",
            f"X{NAME}={OTHER}",
            "not an assignment",
            "E='two\nlines'",
            f"F='{NAME}=\n{NAME}=x'",
            "=",
            "G=#",
        ]
    ),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="'\"="), max_size=30),
)
ENDS = st.sampled_from(["\n", "\r\n"])


@given(
    before=st.lists(st.tuples(LINES, ENDS), max_size=6),
    after=st.lists(st.tuples(LINES, ENDS), max_size=6),
    quote=st.sampled_from(["", "'", '"']),
    export=st.sampled_from(["", "export ", "\texport  "]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_whatever_stands_around_it_stays(before, after, quote, export, end):
    head, tail = ("".join(line + close for line, close in part) for part in (before, after))
    content = f"{head}{export}{NAME}={quote}{OLD}{quote}{end}{tail}".encode()
    changed = envfile.with_secret(content, [NAME], NEW, instead_of=OLD)
    assert changed == content.replace(OLD.encode(), NEW.encode())
    assert envfile.secret_of(changed, [NAME]) == NEW
    assert envfile.with_secret(changed, [NAME], OLD, instead_of=NEW) == content


@given(content=st.binary(max_size=300))
@example(content=b"'" * 100 + b"=" * 100)
@example(content=b'A="' + b"\\" * 200)
def test_any_bytes_are_survived(content):
    changed = envfile.with_secret(content, [NAME], NEW)
    assert envfile.secret_of(changed, [NAME]) == NEW
    assert len(changed) >= len(content)
    assert all(not has_checksum(each.value) for each in envfile.assignments(content))


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("rest", ["", " # comment", "; export OTHER"])
def test_a_shell_reads_what_was_written(tmp_path, quote, rest):
    file = tmp_path / "env"
    file.write_bytes(f"A='1\n{NAME}=no'\n{NAME}=no\n{NAME}={quote}{OLD}{quote}{rest}\n".encode())
    assert envfile.secret_of(file.read_bytes(), [NAME]) == OLD
    file.write_bytes(envfile.with_secret(file.read_bytes(), [NAME], NEW, instead_of=OLD))
    said = subprocess.run(
        ["sh", "-c", f'. {file}; printf %s "${NAME}"'], capture_output=True, text=True, check=True
    )
    assert said.stdout == NEW
