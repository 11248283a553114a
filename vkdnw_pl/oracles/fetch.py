"""Fetches a small file over HTTP so that it ends up whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from vkdnw_pl._version import __version__
from vkdnw_pl.runs.files import replaced, sha256_of

# Answers that may be different a moment later; any other HTTP error is final.
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK_BYTES = 1 << 16
_SLOWEST_BYTES_PER_S = 1_000  # 8 MB in two hours
_MOST_BYTES = 64 << 20  # eight times the largest table


class FetchError(RuntimeError):
    """A file could not be fetched; the text says what was tried and how to do it by hand."""


def fetch(
    url: str,
    path: Path,
    sha256: str,
    *,
    force: bool = False,
    attempts: int = 4,
    backoff_s: float = 1.0,
    timeout_s: float = 30.0,
    most_bytes: int = _MOST_BYTES,
) -> bool:
    """Bring ``url`` to ``path`` with the SHA-256 ``sha256``, through memory.

    Args:
        url: http or https address.
        path: where the file shall be; its folder is made. A damaged file is replaced once the right one is there.
        sha256: expected hash, hexadecimal.
        force: fetch anew even if the right file is there.
        attempts: how often to try where the line breaks or the server is busy.
        backoff_s: pause in seconds after the first failed attempt; it doubles with each.
        timeout_s: longest silence of the server in seconds, and for how long it may send less than 1 kB per second.
        most_bytes: a file that turns out larger is refused, whatever the server says of its length.

    Returns:
        True if the file was fetched, False if it was there already.

    Raises:
        FetchError: if it could not be fetched, has another hash or cannot be written.
        ValueError: if ``url`` is not an http or https address.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url={url!r} is not allowed: it must begin with http:// or https://")
    try:
        if not force and path.is_file() and sha256_of(path) == sha256:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        content, content_type = _receive(url, path.name, attempts, backoff_s, timeout_s, most_bytes)
        received_sha256 = hashlib.sha256(content).hexdigest()
        if received_sha256 != sha256:
            raise FetchError(
                f"{url} is not the expected file: {len(content):,} bytes of type {content_type} with the SHA-256\n"
                f"  {received_sha256}, expected\n  {sha256}"
            )
        with replaced(path) as draft:
            draft.write_bytes(content)
    except (OSError, FetchError) as error:
        reason = f"cannot write {path}: {error}" if isinstance(error, OSError) else str(error)
        raise FetchError(
            f"{reason}\nBy hand: curl -L -o {shlex.quote(str(path))} {shlex.quote(url)}\n"
            f"(on a machine with internet access, then copy the file; its SHA-256 must be {sha256})"
        ) from error
    return True


def _receive(
    url: str, name: str, attempts: int, backoff_s: float, timeout_s: float, most_bytes: int
) -> tuple[bytes, str]:
    """Content and type; all network errors come out as FetchError."""
    failures: list[str] = []
    while True:
        try:
            return _transfer(url, name, timeout_s, most_bytes)
        except urllib.error.HTTPError as error:
            error.close()
            failure = f"HTTP {error.code} {error.reason}"
            if error.code not in _TRANSIENT_STATUS:
                raise FetchError(f"could not fetch {url}: {failure}") from error
        except http.client.InvalidURL as error:
            raise FetchError(f"could not fetch {url}: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            failure = (
                str(error.reason) if isinstance(error, urllib.error.URLError) else f"{type(error).__name__}: {error}"
            )
        failures.append(f"attempt {len(failures) + 1}: {failure}")
        if len(failures) >= attempts:
            raise FetchError("\n  ".join([f"could not fetch {url}", *failures]))
        pause_s = backoff_s * 2 ** (len(failures) - 1)
        print(f"{name}: {failure}; trying again in {pause_s:g} s", file=sys.stderr)
        sleep(pause_s)


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect to anything but http and https; urllib would also take ftp."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.lower().startswith(("http://", "https://")):
            raise FetchError(
                f"could not fetch {req.full_url}: it redirects to {newurl}, which is neither http nor https"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _transfer(url: str, name: str, timeout_s: float, most_bytes: int) -> tuple[bytes, str]:
    from tqdm import tqdm  # here, because every command imports the oracles

    request = urllib.request.Request(url, headers={"User-Agent": f"vkdnw_pl/{__version__}"})
    content = bytearray()
    with urllib.request.build_opener(_WebRedirects).open(request, timeout=timeout_s) as response:
        if response.status != 200:
            raise FetchError(f"could not fetch {url}: HTTP {response.status} {response.reason}, which is no whole file")
        total = response.length  # as the server says it; None where that is no number
        with tqdm(desc=name, total=total, unit="B", unit_scale=True) as progress:
            before, since = 0, monotonic()
            while chunk := response.read1(_CHUNK_BYTES):
                content += chunk
                progress.update(len(chunk))
                if len(content) > most_bytes:
                    raise FetchError(
                        f"could not fetch {url}: it sends more than the {most_bytes:,} bytes that are allowed"
                    )
                if (seconds := monotonic() - since) > timeout_s:
                    if len(content) - before < _SLOWEST_BYTES_PER_S * seconds:
                        raise ConnectionError(f"only {len(content) - before:,} bytes came in {seconds:.0f} s")
                    before, since = len(content), monotonic()
        if total is not None and len(content) < total:
            raise ConnectionError(f"the transfer ended after {len(content):,} of {total:,} bytes")
        return bytes(content), response.headers.get("Content-Type", "unknown")
