"""What a store's refusal or silence means, one_line from the error of its client.

The client (obstore) has few classes of errors; status, code and cause are in the text of the error only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_DEBUG = "\n\nDebug source:\n"
_STATUS = re.compile(r"\n\s+status: ([0-9]{3}),\n")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_QUOTED = re.compile(r'(?:message|error): "([^"]+)"')
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(?:Other\(\s*OtherError\(\s*)?([A-Za-z]+)")
_CREDENTIALS = re.compile(r"External AWS credential provider.*?\n\s+value: (.*?),\n", re.DOTALL)

_CERTIFICATES = {
    "UnknownIssuer": "is certified by an authority that is not trusted; name its file by AWS_CA_BUNDLE",
    "Expired": "has expired",
    "ExpiredContext": "has expired",
    "NotValidYet": "is not valid yet: check the clocks",
    "NotValidYetContext": "is not valid yet: check the clocks",
    "NotValidForName": "is for another host name",
    "NotValidForNameContext": "is for another host name",
    "Revoked": "has been revoked",
    "CaUsedAsEndEntity": "is that of an authority, not of a server",
}

_SITE = {
    "AccountProblem",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "NotSignedUp",
    "PermanentRedirect",
    "RequestTimeTooSkewed",
    "TokenRefreshRequired",
}
"""Codes that speak of the bucket, the credentials or the clock, whatever object was asked for."""

_PASSING = {"InternalError", "RequestTimeout", "ServiceUnavailable", "SignatureDoesNotMatch", "SlowDown"}
"""Codes that may be gone at the next attempt, whatever status they come with."""

_REMEDIES = {
    "AccessDenied": "check the bucket's policy",
    "AuthorizationHeaderMalformed": "check the region",
    "ExpiredToken": "renew the credentials",
    "InvalidAccessKeyId": "check the access key",
    "NoSuchBucket": "there is no such bucket: check buckets and S3 profiles",
    "PermanentRedirect": "check the region",
    "RequestTimeTooSkewed": "check the clocks",
    "SignatureDoesNotMatch": "check the secret key",
}

Kind = Literal["site", "missing", "refused", "passing"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed."""

    kind: Kind
    """``site``: bucket, credentials or clock are wrong, whatever was asked for. ``missing``: there is no such object.
    ``refused``: the answer would be the same next time. ``passing``: an error of the server, or no answer."""
    text: str
    """A short explanation for the operator."""
    status: int | None = None
    """HTTP status, if there was an answer."""
    code: str = ""
    """Code of S3, if the answer had one."""


def explain(error: BaseException) -> Failure:
    """Explain the error of a request."""
    debug = str(error).rpartition(_DEBUG)[2]
    if found := _STATUS.search(debug):
        status, code = int(found[1]), match[1] if (match := _CODE.search(debug)) else ""
        return Failure(_kind(status, code), in_words(status, code), status, code)
    if "BareRedirect" in debug:
        return Failure("refused", "the store redirects to nowhere: check endpoint and region")
    return Failure("passing", _silence(debug))


def _kind(status: int, code: str) -> Kind:
    if code in _SITE:
        return "site"
    if status >= 500 or status in (408, 412, 425, 429) or code in _PASSING:
        return "passing"
    return "missing" if status == 404 else "refused"


def in_words(status: int, code: str) -> str:
    """Describe a store's answer, and what to do about it."""
    text = f"the store answers {status} {code}".rstrip()
    remedy = _REMEDIES.get(code) or ("check credentials and policy" if status in (401, 403) else "")
    return f"{text} ({remedy})" if remedy else text


def one_line(error: BaseException) -> str:
    """Return the message of another client's error and its root cause in one line."""
    messages = [str(error)]
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    messages.append(f"{type(error).__name__}: {error}")
    return " ".join(" - ".join(dict.fromkeys(messages)).split())


def _silence(debug: str) -> str:
    """Explain why there was no answer."""
    if found := _CERTIFICATE.search(debug):
        return f"the store's certificate {_CERTIFICATES.get(found[1], f'is not accepted ({found[1]})')}"
    if found := _CREDENTIALS.search(debug):
        return f"there are no credentials for the store ({found[1]})"
    if "InvalidContentType" in debug:
        return "the store does not speak TLS, although its URL begins with https"
    if "dns error" in debug:
        return f"the store's host name can't be resolved ({_quoted(debug)})"
    if "TimedOut" in debug or "kind: Timeout" in debug:
        return "the store did not answer in time"
    if "ConnectError(" in debug:
        return f"the store can't be reached ({_quoted(debug)})"
    if "IncompleteBody" in debug or "IncompleteMessage" in debug or "ConnectionReset" in debug:
        return "the store closed the connection before the end of its answer"
    return f"the store's answer can't be used ({' '.join(debug.split())[:200]})"


def _quoted(debug: str) -> str:
    return found[-1] if (found := _QUOTED.findall(debug)) else "no cause given"
