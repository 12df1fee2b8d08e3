"""Django's settings: what the environment decides comes through `portal.config`, the rest is fixed here."""

import sys
from datetime import timedelta
from typing import Any

from django.utils.csp import CSP

from portal import config as _config
from portal import dsn as _dsn
from portal import mail as _mail

BASE_DIR = _config.BASE_DIR
KEYSTEAD_HOME = _config.home()
_env = _config.read()

SECRET_KEY = _config.from_file(_env, "KEYSTEAD_SECRET_KEY") or _config.required(_env, "KEYSTEAD_SECRET_KEY")
DEBUG = False
KEYSTEAD_BASE_URL, _host, PLAIN_HTTP = _config.base_url(_config.required(_env, "KEYSTEAD_BASE_URL"))
ALLOWED_HOSTS = [_host, "127.0.0.1", "localhost", "[::1]"] if PLAIN_HTTP else [_host]
TRUSTED_PROXIES = _config.networks(_env.get("TRUSTED_PROXIES", ""), "TRUSTED_PROXIES")

# Keys (spec KEYS §1). The pepper never comes from the database and never from SECRET_KEY.
KEY_BRAND = _config.brand(_env.get("KEYSTEAD_BRAND", "ks"))
KEY_PEPPERS = _config.peppers(
    _config.from_file(_env, "KEYSTEAD_PEPPER") or _config.required(_env, "KEYSTEAD_PEPPER")
)

# What the database keeps encrypted, webhooks' secrets first (spec PEOPLE). The first key encrypts.
ENCRYPTION_KEYS = _config.encryption_keys(
    _config.from_file(_env, "KEYSTEAD_ENCRYPTION_KEYS") or _config.required(_env, "KEYSTEAD_ENCRYPTION_KEYS")
)

# Where webhooks may go (spec EVENTS). PRIVATE is the operator's own network; REFUSED stands above it.
WEBHOOK_PORTS = _config.ports(_env.get("KEYSTEAD_WEBHOOK_PORTS") or "443,8443", "KEYSTEAD_WEBHOOK_PORTS")
WEBHOOK_PRIVATE = _config.networks(_env.get("KEYSTEAD_WEBHOOK_PRIVATE", ""), "KEYSTEAD_WEBHOOK_PRIVATE")
WEBHOOK_REFUSED = _config.networks(_env.get("KEYSTEAD_WEBHOOK_REFUSED", ""), "KEYSTEAD_WEBHOOK_REFUSED")
WEBHOOK_CA_FILE = _env.get("KEYSTEAD_WEBHOOK_CA_FILE", "")
# Whose signatures count in secret scanning (spec EVENTS, Leaks): a file or an https address; none, and it is off.
SECRET_SCANNING_KEYS = _config.partner_keys(_env.get("KEYSTEAD_SECRET_SCANNING_KEYS", ""))

# The ledger (spec LEDGER). The public half alone: the web process never reads the signing key.
LEDGER_ORIGIN_HOST = _env.get("LEDGER_ORIGIN_HOST", _host)
LEDGER_PUBLIC_KEY = _config.from_file(_env, "LEDGER_PUBLIC_KEY")

# Mail (spec EVENTS, Notices). Without a server no mail is sent, and none is kept for later.
_email_url = _config.from_file(_env, "KEYSTEAD_EMAIL_URL")
MAILERS = _mail.mailers(_email_url, is_demo=PLAIN_HTTP)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = _mail.sender(_env.get("KEYSTEAD_EMAIL_FROM", ""), is_needed=bool(MAILERS))
# How long what happens at once is gathered: ten thousand keys that expire are one mail.
MAIL_GATHERING_SECONDS = 10

_OPTIONS = {"application_name": "keystead"}
DATABASES: dict[str, dict[str, Any]] = {
    "default": _dsn.parse(_config.required(_env, "DATABASE_URL"), "DATABASE_URL", **_OPTIONS),
}
for _alias, _name in (
    ("migrate", "DATABASE_MIGRATE_URL"),
    ("verify", "DATABASE_VERIFY_URL"),
    ("notary", "DATABASE_NOTARY_URL"),
):
    if _env.get(_name):
        DATABASES[_alias] = _dsn.parse(_env[_name], _name, **_OPTIONS)
for _database in DATABASES.values():
    _database |= {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True, "DISABLE_SERVER_SIDE_CURSORS": True}
DATABASE_ROUTERS: list[str] = []
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "orgs.counters.CounterCache",
        "LOCATION": "orgs_counter",
        # By default 300: then a flood from many addresses would throw away the counters of limits while they count.
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

INSTALLED_APPS = [
    "portal",
    "keys",
    "orgs",
    "audit",
    "portal.apps.AdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.forms",
    "allauth",
    "allauth.account",
    "django_htmx",
    "procrastinate.contrib.django",
]
MIDDLEWARE = [
    "portal.middleware.RequestMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "portal.middleware.GuardMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "portal.middleware.RedactionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "orgs.middleware.SignInMiddleware",
    "orgs.middleware.MemberMiddleware",
]
ROOT_URLCONF = "portal.urls"
WSGI_APPLICATION = "portal.wsgi.application"
APPEND_SLASH = False
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.csp",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "orgs.context.frame",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

# People
AUTH_USER_MODEL = "orgs.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("MinimumLengthValidator", {"min_length": 12}),
        ("CommonPasswordValidator", {}),
        ("UserAttributeSimilarityValidator", {"user_attributes": ("email", "name")}),
    )
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_ADAPTER = "orgs.adapters.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_EMAIL_NOTIFICATIONS = False
ACCOUNT_RATE_LIMITS = False
# Limits of pages are django-ratelimit's, counted atomically in the database (orgs.counters).
RATELIMIT_USE_CACHE = "default"
RATELIMIT_IP_META_KEY = "orgs.limits.client_address"
RATELIMIT_FAIL_OPEN = False
# A deployment may do without mail: W001 speaks of that, and the operator's page says it.
SILENCED_SYSTEM_CHECKS = ["django_ratelimit.E003", "django_ratelimit.W001", "mail.W001"]

SESSION_ENGINE = "orgs.sessions"
SESSION_COOKIE_AGE = 30 * 60
SESSION_ABSOLUTE_AGE = timedelta(hours=12)
SESSION_SAVE_EVERY_REQUEST = False
SESSION_EXPIRE_AT_BROWSER_CLOSE = False

# Cookies and headers (spec PEOPLE, “What guards every page”)
_prefix, _secure = ("", False) if PLAIN_HTTP else ("__Host-", True)
SESSION_COOKIE_NAME, SESSION_COOKIE_SECURE = f"{_prefix}session", _secure
CSRF_COOKIE_NAME, CSRF_COOKIE_SECURE = f"{_prefix}csrf", _secure
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "portal.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SECURE_HSTS_SECONDS = 0 if PLAIN_HTTP else 63_072_000
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not PLAIN_HTTP
SECURE_SSL_REDIRECT = not PLAIN_HTTP
SECURE_REDIRECT_EXEMPT = [r"^(healthz|readyz)$"]
SECURE_PROXY_SSL_HEADER = None if PLAIN_HTTP else ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_REFERRER_POLICY = "no-referrer"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SECURE_CSP = {
    "default-src": [CSP.NONE],
    "script-src": [CSP.SELF, CSP.NONCE],
    "style-src": [CSP.SELF],
    "img-src": [CSP.SELF],
    "font-src": [CSP.SELF],
    "connect-src": [CSP.SELF],
    "manifest-src": [CSP.SELF],
    "form-action": [CSP.SELF],
    "frame-ancestors": [CSP.NONE],
    "base-uri": [CSP.NONE],
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000

USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = _env.get("KEYSTEAD_STATIC_ROOT") or BASE_DIR / "staticfiles"
STORAGES = {
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
WHITENOISE_MAX_AGE = 0

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "portal.logs.formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": _env.get("KEYSTEAD_LOG_LEVEL", "INFO")},
    "loggers": {
        "django": {"handlers": [], "level": "INFO", "propagate": True},
        "django.server": {"handlers": [], "propagate": True},
        # Each tick of the clock would be four lines.
        "procrastinate": {"level": "WARNING"},
        # Each request with its address.
        "httpx": {"level": "WARNING"},
    },
}
