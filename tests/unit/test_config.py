import pytest
from django.core.exceptions import ImproperlyConfigured

from portal import config

PEPPER = "ab" * 32
FERNET = "a" * 43 + "="


class TestRead:
    def test_the_environment_alone_counts_where_it_names_a_database(self, monkeypatch, tmp_path):
        (tmp_path / "env").write_text("KEYSTEAD_BRAND=demo\n")
        monkeypatch.setenv("KEYSTEAD_HOME", str(tmp_path))
        monkeypatch.setenv("DATABASE_URL", "postgres://a@b/c")
        monkeypatch.delenv("KEYSTEAD_BRAND", raising=False)
        assert "KEYSTEAD_BRAND" not in config.read()

    def test_the_demos_file_lies_under_the_environment(self, monkeypatch, tmp_path):
        (tmp_path / "env").write_text(
            "# comment\nDATABASE_URL=postgres://a@b/c\nKEYSTEAD_BRAND=demo\nX=1=2\n"
        )
        monkeypatch.setenv("KEYSTEAD_HOME", str(tmp_path))
        monkeypatch.delenv("DATABASE_URL", raising=False)
        monkeypatch.setenv("KEYSTEAD_BRAND", "mine")
        read = config.read()
        assert (read["DATABASE_URL"], read["KEYSTEAD_BRAND"], read["X"]) == (
            "postgres://a@b/c",
            "mine",
            "1=2",
        )

    def test_without_either_there_is_only_the_environment(self, monkeypatch, tmp_path):
        monkeypatch.setenv("KEYSTEAD_HOME", str(tmp_path))
        monkeypatch.delenv("DATABASE_URL", raising=False)
        with pytest.raises(ImproperlyConfigured, match=r"DATABASE_URL is not set"):
            config.required(config.read(), "DATABASE_URL")


class TestFromFile:
    def test_a_file_wins(self, tmp_path):
        (tmp_path / "secret").write_text("from file\n")
        assert config.from_file({"A": "x", "A_FILE": str(tmp_path / "secret")}, "A") == "from file"

    def test_an_unreadable_file_is_one_clear_line(self, tmp_path):
        with pytest.raises(ImproperlyConfigured, match=r"A_FILE: can't read .*: No such file"):
            config.from_file({"A_FILE": str(tmp_path / "missing")}, "A")


class TestPeppers:
    def test_versions(self):
        assert config.peppers(f"1:{PEPPER},2:{'cd' * 32}") == {1: bytes.fromhex(PEPPER), 2: b"\xcd" * 32}

    @pytest.mark.parametrize(
        "text",
        [
            "",
            PEPPER,
            "1:",
            "1:abcd",
            f"0:{PEPPER}",
            f"1:{PEPPER},1:{PEPPER}",
            "1:" + "zz" * 32,
            f"x:{PEPPER}",
        ],
    )
    def test_refused_without_repeating_it(self, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            config.peppers(text)
        assert PEPPER not in str(caught.value)


class TestEncryptionKeys:
    def test_the_first_is_the_newest(self):
        assert config.encryption_keys(f"{FERNET},{'b' * 43}=\n") == (FERNET, "b" * 43 + "=")

    @pytest.mark.parametrize("text", ["", " , ", FERNET[:-1], FERNET + "=", f"{FERNET},x", "é" + FERNET[1:]])
    def test_refused_without_repeating_it(self, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            config.encryption_keys(text)
        assert FERNET[:20] not in str(caught.value)


class TestPorts:
    def test_by_comma(self):
        assert config.ports("443, 8443,", "A") == {443, 8443}

    @pytest.mark.parametrize("text", ["0", "65536", "-1", "https", "４４３", "1" * 5000])
    def test_refused(self, text):
        with pytest.raises(ImproperlyConfigured, match="A must"):
            config.ports(text, "A")


class TestBaseUrl:
    def test_https_anywhere_and_http_on_the_loopback(self):
        assert config.base_url("https://keys.example.com/") == (
            "https://keys.example.com",
            "keys.example.com",
            False,
        )
        assert config.base_url("http://127.0.0.1:8000") == ("http://127.0.0.1:8000", "127.0.0.1", True)

    @pytest.mark.parametrize("url", ["http://keys.example.com", "http://0.0.0.0:8000"])
    def test_plain_http_elsewhere_refuses_to_start(self, url):
        with pytest.raises(ImproperlyConfigured, match="loopback only"):
            config.base_url(url)

    @pytest.mark.parametrize("url", ["keys.example.com", "ftp://x", "https://", "https://x/path"])
    def test_malformed(self, url):
        with pytest.raises(ImproperlyConfigured, match="must be like"):
            config.base_url(url)


class TestBrandAndNetworks:
    def test_brand(self):
        assert config.brand("ks") == "ks"

    @pytest.mark.parametrize("text", ["", "k", "KS", "k_s", "toolongbrand"])
    def test_brand_refused(self, text):
        with pytest.raises(ImproperlyConfigured):
            config.brand(text)

    def test_networks(self):
        assert [str(n) for n in config.networks("10.0.0.0/8, ::1/128,", "X")] == ["10.0.0.0/8", "::1/128"]
        with pytest.raises(ImproperlyConfigured, match="TRUSTED_PROXIES"):
            config.networks("10.0.0.1/8", "TRUSTED_PROXIES")
