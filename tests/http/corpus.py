# ruff: noqa: E501
"""Raw requests, the rule of HTTP that each rests on, and what becomes of it.

``GET /livez`` and ``GET /metrics`` go to the listener of administration, ``POST /notify`` to that of notifications, and
``GET /presence/`` to that of presence.
"""

from __future__ import annotations

from dataclasses import dataclass

H = b"Host: a\r\n"
"""The header that each request of HTTP/1.1 needs."""

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
"""A request that hides in what another server may take for a body, or the other way round."""

EMPTY = b'{"Records":[]}'
CLOSED, OPEN = True, False


@dataclass(frozen=True)
class Case:
    """One sequence of bytes on one connection."""

    name: str
    sent: bytes
    rule: str
    """Section of RFC 9112, unless another is named, and what it says in short."""
    statuses: tuple[int, ...]
    """Of all answers, in order."""
    closes: bool
    """Whether the listener closes the connection then."""
    differs: str = ""
    """How aiohttp differs from the rule, and why that is harmless here."""


def get(headers: bytes = H, target: bytes = b"/livez", version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" " + version + b"\r\n" + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /notify HTTP/1.1\r\n" + H + headers + b"\r\n" + body


def chunked(body: bytes, headers: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
    return post(headers, body)


LENGTH = b"Content-Length: %d\r\n" % len(EMPTY)
CHUNK = b"e\r\n" + EMPTY + b"\r\n"

CASES = [
    # The first line
    Case("simple", get(), "3: method SP target SP version CRLF", (200,), OPEN),
    Case("empty line before", b"\r\n" + get(), "2.2: SHOULD ignore at least one empty line before", (200,), OPEN),
    Case("three empty lines before", b"\r\n\r\n\r\n" + get(), "2.2: SHOULD ignore at least one", (200,), OPEN),
    Case("bare LF ends the first line", b"GET /livez HTTP/1.1\nHost: a\r\n\r\n", "2.2: MAY take LF as end", (400,), CLOSED),
    Case("bare LF ends a header", b"GET /livez HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", "2.2: MAY take LF as end", (400,), CLOSED),
    Case("bare LF ends the head", b"GET /livez HTTP/1.1\r\nHost: a\r\n\n" + SMUGGLED, "2.2: MAY take LF as end", (400,), CLOSED),
    Case("bare CR in the first line", b"GET /livez\rX HTTP/1.1\r\n" + H + b"\r\n", "2.2: bare CR is invalid", (400,), CLOSED),
    Case("bare CR ends a header", get(H + b"X: y\rZ: z\r\n"), "2.2: bare CR is invalid or SP", (400,), CLOSED),
    Case("space before the first line", b" " + get(), "3: no white space before the method", (400,), CLOSED),
    Case("two spaces", b"GET  /livez HTTP/1.1\r\n" + H + b"\r\n", "3: single SP", (200,), OPEN, "takes several, as RFC 9112 3 allows"),
    Case("tab for space", b"GET\t/livez HTTP/1.1\r\n" + H + b"\r\n", "3: single SP", (400,), CLOSED),
    Case("space after the version", b"GET /livez HTTP/1.1 \r\n" + H + b"\r\n", "3: nothing after the version", (400,), CLOSED),
    Case("no version", b"GET /livez\r\n" + H + b"\r\n", "3: HTTP/0.9 is no longer HTTP", (505,), CLOSED, "taken for HTTP/0.9, which we refuse"),
    Case("no target", b"GET HTTP/1.1\r\n" + H + b"\r\n", "3: method, target, version", (400,), CLOSED),
    Case("lower-case method", get(method=b"get"), "3.1: methods are case-sensitive", (400,), CLOSED),
    Case("unknown method", get(method=b"GRAB"), "RFC 9110 9.1: SHOULD be 501", (400,), CLOSED, "400: its parser knows no other methods"),
    Case("method with a separator", get(method=b"GE,T"), "3.1: a token", (400,), CLOSED),
    Case("lower-case version", get(version=b"http/1.1"), "2.3: HTTP-name is case-sensitive", (400,), CLOSED),
    Case("HTTP/1.10", get(version=b"HTTP/1.10"), "2.3: one digit each", (400,), CLOSED),
    Case("HTTP/1.2", get(version=b"HTTP/1.2"), "RFC 9110 2.5: as HTTP/1.1", (400,), CLOSED, "400: it knows 0.9, 1.0, 1.1 and 2.0"),
    Case("HTTP/2.0", get(version=b"HTTP/2.0"), "RFC 9110 15.6.6: 505 MAY be sent", (505,), CLOSED, "taken, and refused by us"),
    Case("HTTP/0.9", get(version=b"HTTP/0.9"), "2.3: another major version", (505,), CLOSED, "taken, and refused by us"),
    Case("HTTP/3", get(version=b"HTTP/3"), "2.3: DIGIT . DIGIT", (400,), CLOSED),
    Case("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "RFC 9113 3.4: not HTTP/1", (400,), CLOSED),
    Case("TLS to a plain port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50), "3: not HTTP", (400,), CLOSED),
    Case("line of 9 kB", get(target=b"/" + b"x" * 9000), "3: SHOULD take 8000; 414 beyond", (400,), CLOSED, "400 instead of 414"),
    Case("line of 7 kB", get(target=b"/" + b"x" * 7000), "3: SHOULD take 8000", (404,), OPEN),
    # The target
    Case("absolute form", get(target=b"http://b:99/livez"), "3.2.2: MUST be accepted", (200,), OPEN),
    Case("absolute form without path", get(target=b"http://b"), "3.2.2: MUST be accepted", (404,), OPEN),
    Case("absolute form of another scheme", get(target=b"ftp://b/livez"), "3.2.2: absolute-URI", (200,), OPEN, "the scheme does not matter to it"),
    Case("asterisk", get(target=b"*", method=b"OPTIONS"), "3.2.4: for OPTIONS only", (404,), OPEN),
    Case("asterisk with GET", get(target=b"*"), "3.2.4: for OPTIONS only", (400,), CLOSED),
    Case("authority form with GET", get(target=b"a:80"), "3.2.3: for CONNECT only", (400,), CLOSED),
    Case("CONNECT", get(target=b"a:80", method=b"CONNECT") + SMUGGLED, "RFC 9110 9.3.6: an origin server MAY refuse", (404, 404), OPEN),
    Case("relative target", get(target=b"livez"), "3.2: none of the four forms", (400,), CLOSED),
    Case("raw space in the target", get(target=b"/live z"), "3.2: SHOULD be 400", (400,), CLOSED),
    Case("NUL in the target", get(target=b"/livez\0"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("control byte in the target", get(target=b"/livez\x01"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("DEL in the target", get(target=b"/livez\x7f"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("tab in the target", get(target=b"/live\tz"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("bytes beyond ASCII in the target", get(target=b"/liv\xc3\xa9z"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("encoded NUL", get(target=b"/livez%00"), "RFC 3986 2.1: another path", (404,), OPEN),
    Case("bad percent encoding", get(target=b"/livez%zz"), "RFC 3986 2.1: % HEXDIG HEXDIG", (404,), OPEN, "taken as it is; another path"),
    Case("dots in the path", get(target=b"/x/../livez"), "RFC 3986 6.2.2.3: normalisation is the client's", (404,), OPEN),
    Case("query", get(target=b"/livez?x=/metrics"), "3.2.1: origin-form", (200,), OPEN),
    Case("fragment", get(target=b"/livez#x"), "3.2.1: no fragment", (200,), OPEN, "cut off and ignored"),
    # Host
    Case("no Host", get(b""), "3.2: MUST be 400", (400,), CLOSED),
    Case("two Hosts", get(H + b"Host: b\r\n"), "3.2: MUST be 400", (400,), CLOSED),
    Case("two equal Hosts", get(H + H), "3.2: MUST be 400", (400,), CLOSED),
    Case("empty Host", get(b"Host:\r\n"), "3.2: allowed where the target has no authority", (200,), OPEN),
    Case("Host with port", get(b"Host: a.example:8000\r\n"), "RFC 9110 7.2: uri-host [: port]", (200,), OPEN),
    Case("Host of IPv6", get(b"Host: [::1]:8000\r\n"), "RFC 3986 3.2.2: IP-literal", (200,), OPEN),
    Case("Host with a slash", get(b"Host: a/b\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    Case("Host with userinfo", get(b"Host: u@a\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    Case("Host with a space", get(b"Host: a b\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    Case("list of Hosts", get(b"Host: a, b\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    Case("Host with a bad port", get(b"Host: a:x\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    Case("Host beyond ASCII", get(b"Host: \xc3\xa9\r\n"), "3.2: an invalid value MUST be 400", (400,), CLOSED),
    # Headers
    Case("space before the colon", get(H + b"X : y\r\n"), "5.1: MUST be 400", (400,), CLOSED),
    Case("no colon", get(H + b"X\r\n"), "5: name : value", (400,), CLOSED),
    Case("empty name", get(H + b": y\r\n"), "5: a token has a character", (400,), CLOSED),
    Case("folded value", get(H + b"X: y\r\n z\r\n"), "5.2: MUST be 400 or replaced by SP", (400,), CLOSED),
    Case("folded by a tab", get(H + b"X: y\r\n\tz\r\n"), "5.2: MUST be 400 or replaced by SP", (400,), CLOSED),
    Case("white space before the first header", b"GET /livez HTTP/1.1\r\n X: y\r\n" + H + b"\r\n", "2.2: MUST be rejected or ignored", (400,), CLOSED),
    Case("NUL in a value", get(H + b"X: \0\r\n"), "RFC 9110 5.5: reject or replace", (400,), CLOSED),
    Case("control byte in a value", get(H + b"X: \x01\r\n"), "RFC 9110 5.5: invalid", (400,), CLOSED),
    Case("DEL in a value", get(H + b"X: \x7f\r\n"), "RFC 9110 5.5: invalid", (400,), CLOSED),
    Case("bytes beyond ASCII in a value", get(H + b"X: \xe9\r\n"), "RFC 9110 5.5: opaque", (200,), OPEN),
    Case("bytes beyond ASCII in a name", get(H + b"\xc3\xa9: y\r\n"), "RFC 9110 5.1: a token", (400,), CLOSED),
    Case("separator in a name", get(H + b"X(y): z\r\n"), "RFC 9110 5.1: a token", (400,), CLOSED),
    Case("empty value", get(H + b"X:\r\n"), "5: may be empty", (200,), OPEN),
    Case("tab before the value", get(H + b"X:\ty\t\r\n"), "5: OWS", (200,), OPEN),
    Case("value of 9 kB", get(H + b"X: " + b"y" * 9000 + b"\r\n"), "RFC 6585 5: 431", (400,), CLOSED, "400 instead of 431"),
    Case("a thousand headers", get(H + b"X: y\r\n" * 1000), "RFC 6585 5: 431", (400,), CLOSED, "400 instead of 431"),
    Case("Authorization of 7 kB", get(H + b"Authorization: " + b" " * 3500 + b"x" * 3500 + b"\r\n"), "RFC 9110 11.6.2", (200,), OPEN),
    # How long the body is
    Case("length", post(LENGTH, EMPTY), "6.2", (200,), OPEN),
    Case("length and chunks", post(LENGTH + b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n" + SMUGGLED), "6.1: ought to be handled as an error", (400,), CLOSED),
    Case("chunks and length", post(b"Transfer-Encoding: chunked\r\n" + LENGTH, b"0\r\n\r\n" + SMUGGLED), "6.1: ought to be handled as an error", (400,), CLOSED),
    Case("two equal lengths", post(LENGTH + LENGTH, EMPTY), "6.3: MUST be an error, or one if equal", (400,), CLOSED),
    Case("two lengths", post(LENGTH + b"Content-Length: 0\r\n", EMPTY), "6.3: MUST be an error", (400,), CLOSED),
    Case("list of equal lengths", post(b"Content-Length: 14, 14\r\n", EMPTY), "6.3: MUST be an error, or one if equal", (400,), CLOSED),
    Case("length with a sign", post(b"Content-Length: +14\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("negative length", post(b"Content-Length: -1\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("hexadecimal length", post(b"Content-Length: 0xe\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("length with a space", post(b"Content-Length: 1 4\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("length with an underscore", post(b"Content-Length: 1_4\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("digits of another script", post("Content-Length: ١٤\r\n".encode(), EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("empty length", post(b"Content-Length:\r\n", EMPTY), "RFC 9110 8.6: digits", (400,), CLOSED),
    Case("length beyond 64 bits", post(b"Content-Length: 18446744073709551617\r\n", EMPTY), "RFC 9110 8.6: overflow", (400,), CLOSED),
    Case("length of an exabyte", post(b"Content-Length: 1000000000000000000\r\n", EMPTY), "RFC 9110 15.5.14: 413", (413,), CLOSED),
    Case("length under another name", post(b"Content_Length: 14\r\n" + b"Content-Length: 0\r\n", SMUGGLED), "5.1: another header", (400, 404), OPEN),
    Case("body of a GET", get(H + b"Content-Length: 35\r\n") + SMUGGLED, "6.3: the body is read", (200,), OPEN),
    Case("no length, no body", post(b""), "6.3: length 0", (400,), OPEN),
    # Transfer-Encoding
    Case("chunks", chunked(CHUNK + b"0\r\n\r\n"), "7.1", (200,), OPEN),
    Case("Chunked", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: Chunked\r\n"), "7: names are case-insensitive", (200,), OPEN),
    Case("two lines of Transfer-Encoding", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked\r\n" * 2), "6.1: chunked MUST NOT be applied twice", (400,), CLOSED),
    Case("chunked twice", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: chunked, chunked\r\n"), "6.1: chunked MUST NOT be applied twice", (400,), CLOSED),
    Case("identity", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: identity\r\n"), "6.3: chunked is not final: 400", (400,), CLOSED),
    Case("gzip", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: gzip\r\n"), "6.3: chunked is not final: 400", (400,), CLOSED),
    Case("chunked, then gzip", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: chunked, gzip\r\n"), "6.3: chunked is not final: 400", (400,), CLOSED),
    Case("gzip, then chunked", chunked(CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked\r\n"), "6.1: unknown coding SHOULD be 501", (501,), CLOSED, "taken for chunked, and refused by us"),
    Case("xchunked", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: xchunked\r\n"), "6.3: chunked is not final: 400", (400,), CLOSED),
    Case("chunked with VT", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: \x0bchunked\r\n"), "RFC 9110 5.5: VT is no OWS", (400,), CLOSED),
    Case("quoted chunked", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b'Transfer-Encoding: "chunked"\r\n'), "7: a token", (400,), CLOSED),
    Case("empty Transfer-Encoding", chunked(CHUNK + b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding:\r\n"), "6.3: chunked is not final: 400", (400,), CLOSED),
    Case("chunks in HTTP/1.0", b"POST /notify HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n", "6.1: MUST be treated as faulty, and closed", (501,), CLOSED, "taken, and refused by us"),
    # Chunks
    Case("chunk extension", chunked(b"e;a=b\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1.1: ignored", (200,), OPEN),
    Case("quoted chunk extension", chunked(b'e;a="b;c"\r\n' + EMPTY + b"\r\n0\r\n\r\n"), "7.1.1: ignored", (200,), OPEN),
    Case("LF in a chunk extension", chunked(b"e;a\nb\r\n" + EMPTY + b"\r\n0\r\n\r\n" + SMUGGLED), "7.1.1: no LF", (400,), CLOSED),
    Case("chunk extension of 100 kB", chunked(b"e;" + b"x" * 100_000 + b"\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1.1: ought to be limited", (200,), OPEN),
    Case("leading zeros in a chunk size", chunked(b"000e\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: 1*HEXDIG", (200,), OPEN),
    Case("chunk size with 0x", chunked(b"0xe\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: 1*HEXDIG", (400,), CLOSED),
    Case("chunk size with a sign", chunked(b"+e\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: 1*HEXDIG", (400,), CLOSED),
    Case("negative chunk size", chunked(b"-e\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: 1*HEXDIG", (400,), CLOSED),
    Case("no chunk size", chunked(b"\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: 1*HEXDIG", (400,), CLOSED),
    Case("space after a chunk size", chunked(b"e \r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1.1: BWS only before an extension", (400,), CLOSED),
    Case("chunk size beyond 64 bits", chunked(b"1000000000000000e\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: MUST prevent overflow", (400,), CLOSED),
    Case("chunk longer than its size", chunked(b"d\r\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: CRLF after the data", (400,), CLOSED),
    Case("bare LF after a chunk size", chunked(b"e\n" + EMPTY + b"\r\n0\r\n\r\n"), "7.1: CRLF; 2.2 is for heads only", (400,), CLOSED),
    Case("bare LF after a chunk", chunked(b"e\r\n" + EMPTY + b"\n0\r\n\r\n"), "7.1: CRLF", (400,), CLOSED),
    Case("bare LF after the last chunk", chunked(CHUNK + b"0\n\r\n" + SMUGGLED), "7.1: CRLF", (400,), CLOSED),
    Case("bare LF ends the trailers", chunked(CHUNK + b"0\r\n\n" + SMUGGLED), "7.1.2: CRLF", (400,), CLOSED),
    Case("trailer", chunked(CHUNK + b"0\r\nX: y\r\n\r\n"), "7.1.2: may be dropped", (200,), OPEN),
    Case("length in a trailer", chunked(CHUNK + b"0\r\nContent-Length: 99\r\n\r\n") + SMUGGLED, "RFC 9110 6.5.1: not for framing", (400,), CLOSED, "400: a trailer that names a length is an error"),
    Case("bad trailer", chunked(CHUNK + b"0\r\nno colon\r\n\r\n" + SMUGGLED), "7.1.2: field lines", (400,), CLOSED),
    Case("trailers without end", chunked(CHUNK + b"0\r\n" + b"X: y\r\n" * 3000 + b"\r\n"), "RFC 6585 5: limited", (400,), CLOSED),
    # One connection
    Case("pipelined", get() + get(target=b"/readyz") + get(target=b"/none"), "9.3.2: answers in order", (200, 200, 404), OPEN),
    Case("close", get(H + b"Connection: close\r\n") + SMUGGLED, "9.6: nothing after it is answered", (400,), CLOSED, "400, and the request before is not answered: what follows it in the same packet is an error"),
    Case("close without a space", get(H + b"Connection:close\r\n") + SMUGGLED, "5: OWS is optional", (400,), CLOSED, "400, and the request before is not answered: what follows it in the same packet is an error"),
    Case("Close", get(H + b"Connection: Close\r\n") + SMUGGLED, "RFC 9110 7.6.1: case-insensitive", (400,), CLOSED, "400, and the request before is not answered: what follows it in the same packet is an error"),
    Case("close in a list", get(H + b"Connection: keep-alive, close\r\n") + SMUGGLED, "RFC 9110 7.6.1: a list", (400,), CLOSED, "400, and the request before is not answered: what follows it in the same packet is an error"),
    Case("HTTP/1.0", get(b"", version=b"HTTP/1.0") + SMUGGLED, "9.3: not persistent", (400,), CLOSED, "400, and the request before is not answered: what follows it in the same packet is an error"),
    Case("close, alone", get(H + b"Connection:close\r\n"), "9.6: the answer is the last", (200,), CLOSED),
    Case("HTTP/1.0, alone", get(b"", version=b"HTTP/1.0"), "9.3: not persistent", (200,), CLOSED),
    Case("HTTP/1.0 kept alive", get(b"Connection: keep-alive\r\n", version=b"HTTP/1.0"), "9.3: persistent if asked for", (200,), OPEN),
    Case("upgrade to h2c", get(H + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"), "RFC 9110 7.8: MAY be ignored", (200,), CLOSED, "loses what follows in the same packet, so we close"),
    Case("upgrade to websocket", get(H + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"), "RFC 9110 7.8: MAY be ignored", (200,), CLOSED, "loses what follows in the same packet, so we close"),
    Case("what follows a refused upgrade", get(H + b"Connection: Upgrade\r\nUpgrade: websocket\r\n") + get(target=b"/none"), "RFC 9110 7.8: the next request", (200,), CLOSED, "loses what follows in the same packet, so we close"),
    # Methods and expectations
    Case("HEAD", get(method=b"HEAD"), "RFC 9110 9.3.2: as GET, without body", (200,), OPEN),
    Case("OPTIONS", get(method=b"OPTIONS"), "RFC 9110 9.3.7", (405,), OPEN),
    Case("TRACE", get(method=b"TRACE"), "RFC 9110 9.3.8: SHOULD not show secrets", (405,), OPEN),
    Case("DELETE", get(method=b"DELETE"), "RFC 9110 15.5.6: 405", (405,), OPEN),
    Case("100-continue", post(b"Expect: 100-continue\r\n" + LENGTH, EMPTY), "RFC 9110 10.1.1: 100, or omitted", (100, 200), OPEN),
    Case("100-continue in HTTP/1.0", b"POST /notify HTTP/1.0\r\nExpect: 100-continue\r\n" + LENGTH + b"\r\n" + EMPTY, "RFC 9110 10.1.1: MUST be ignored", (200,), CLOSED),
    Case("another expectation", post(b"Expect: miracle\r\n" + LENGTH, EMPTY), "RFC 9110 10.1.1: MAY be 417", (417,), OPEN),
    Case("override of the method", get(H + b"X-HTTP-Method-Override: DELETE\r\n"), "no rule: unknown headers are ignored", (200,), OPEN),
    # Bodies
    Case("compressed", post(b"Content-Encoding: gzip\r\n" + LENGTH, EMPTY), "RFC 9110 15.5.16: MAY be 415", (415,), OPEN),
    Case("not compressed", post(b"Content-Encoding: identity\r\n" + LENGTH, EMPTY), "RFC 9110 8.4.1", (200,), OPEN),
    Case("body beyond the limit", post(b"Content-Length: 2000000\r\n", b" " * 2_000_000), "RFC 9110 15.5.14: 413", (413,), CLOSED),
    Case("chunks beyond the limit", chunked(b"1e8480\r\n" + b" " * 2_000_000 + b"\r\n0\r\n\r\n"), "RFC 9110 15.5.14: 413", (413,), CLOSED),
    # Presence
    Case("presence", get(target=b"/presence/LSSTCam/g%20+1/0/R22_S11"), "3.2.1", (200,), OPEN),
    Case("presence with a raw space", get(target=b"/presence/LSSTCam/g +1/0/R22_S11"), "3.2: SHOULD be 400", (400,), CLOSED),
    Case("presence with bytes beyond ASCII", get(target=b"/presence/LSSTCam/\xe9/0/R22_S11"), "RFC 3986 2: not a URI character", (400,), CLOSED),
    Case("presence that hides a line", get(target=b"/presence/LSSTCam/a%0d%0aX:%20y/0/R22_S11"), "RFC 3986 2.1: data, not structure", (200,), OPEN),
]  # fmt: skip
