"""Addresses of cameras: with credentials for the one who connects, without them for everybody else."""

import re
from urllib.parse import quote, unquote, urlsplit, urlunsplit

_USERINFO = re.compile(r"(?<=://)[^/\s?#'\"]*@")
# Some cameras want them as parameters: rtsp://host/user=admin&password=secret&channel=1
_PARAMETER = re.compile(r"(?i)\b((?:pass(?:word|wd)?|pwd|token|secret)=)[^&\s'\"]+")


def redact(text: str) -> str:
    """`text` with the credentials of every URL in it replaced: `rtsp://***@host/path?password=***`.

    Greedy up to the last @ before the path, so that a password with an unescaped @ is hidden as well.
    """
    return _PARAMETER.sub(r"\1***", _USERINFO.sub("***@", text))


def scrub(text: str, *secrets: str) -> str:
    """`redact`, and also every given secret in plain and in percent-encoded form, wherever it stands."""
    text = redact(text)
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return text


def with_credentials(url: str, username: str, password: str) -> str:
    """`url` with the given credentials in place of its own; unchanged when no user name is given."""
    if not username:
        return url
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    userinfo = f"{quote(username, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{userinfo}@{host}"))


def without_credentials(url: str) -> tuple[str, str, str]:
    """The bare URL and the user name and password it carried (percent-decoded; empty when there are none)."""
    parts = urlsplit(url)
    userinfo, _, host = parts.netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(username), unquote(password)
