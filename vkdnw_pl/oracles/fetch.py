"""Fetches a file over HTTP so that it ends up whole and verified, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path
from time import sleep
from typing import NamedTuple

from vkdnw_pl._version import __version__

# Answers that may be different a moment later; any other HTTP error is final.
_TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK_BYTES = 1 << 16


class FetchError(RuntimeError):
    """A file could not be fetched; the text says what was tried and how to do it by hand."""


class _TransientError(Exception):
    """An attempt failed in a way that another attempt may not."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    url: str,
    path: Path,
    sha256: str,
    *,
    force: bool = False,
    attempts: int = 4,
    backoff_s: float = 1.0,
    timeout_s: float = 30.0,
) -> bool:
    """Bring ``url`` to ``path`` with the SHA-256 ``sha256``.

    A right file that is there already is left alone, a damaged one is replaced. Bytes go to ``<path>.part``, which
    takes the place of ``path`` in one step once its hash fits; an interrupted transfer leaves it there and the next
    call continues it, where the server can (HTTP Range), else starts anew.

    Args:
        url: http or https address.
        path: where the file shall be; its folder is made.
        sha256: expected hash, hexadecimal.
        force: fetch anew even if the right file is there.
        attempts: how often in a row an attempt may end without having brought new bytes.
        backoff_s: pause in seconds after the first such attempt; it doubles with each.
        timeout_s: longest silence of the server in seconds.

    Returns:
        True if the file was fetched, False if it was there already.

    Raises:
        FetchError: if it could not be fetched, has another hash or cannot be written.
        ValueError: if ``url`` is not an http or https address.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"url={url!r} is not allowed: it must begin with http:// or https://")
    part = path.with_name(path.name + ".part")
    by_hand = (
        f"\nBy hand: curl -L -o {shlex.quote(str(path))} {shlex.quote(url)}\n"
        f"(on a machine with internet access, then copy the file; its SHA-256 must be {sha256})"
    )
    try:
        if not force and path.is_file() and sha256_of(path) == sha256:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        if force:
            part.unlink(missing_ok=True)
        _fetch_part(url, part, sha256, attempts=attempts, backoff_s=backoff_s, timeout_s=timeout_s)
        os.replace(part, path)
    except OSError as error:
        raise FetchError(f"cannot write {path}: {error}{by_hand}") from error
    except FetchError as error:
        raise FetchError(f"{error}{by_hand}") from error
    return True


def _fetch_part(url: str, part: Path, sha256: str, *, attempts: int, backoff_s: float, timeout_s: float) -> None:
    """Return once ``part`` has the hash; all network errors come out as FetchError, those of the disk as OSError."""
    failures: list[str] = []
    in_vain = 0
    most = _size(part)
    restarted = False
    while True:
        start = _size(part)
        if start and sha256_of(part) == sha256:  # it ended between the last byte and the renaming
            return
        try:
            received = _transfer(url, part, start, timeout_s)
        except _TransientError as error:
            failures.append(f"attempt {len(failures) + 1}: {error}")
            # A slow line that drops now and then gets there in the end; only attempts without new bytes count.
            in_vain = 0 if _size(part) > most else in_vain + 1
            most = max(most, _size(part))
            if in_vain >= attempts:
                raise FetchError("\n  ".join([f"could not fetch {url}", *failures])) from error
            pause_s = backoff_s * 2 ** max(in_vain - 1, 0)
            print(f"{part.stem}: {error}; trying again in {pause_s:g} s", file=sys.stderr)
            sleep(pause_s)
            continue
        received_sha256 = sha256_of(part)
        if received_sha256 == sha256:
            return
        part.unlink()
        if received.resumed and not restarted:
            # The beginning may be a leftover of another file.
            print(f"{part.stem}: the continued file has the wrong SHA-256; starting anew", file=sys.stderr)
            restarted, most = True, 0
            continue
        raise FetchError(
            f"{url} is not the expected file (deleted): {received.num_bytes:,} bytes of type "
            f"{received.content_type} with the SHA-256\n  {received_sha256}, expected\n  {sha256}"
        )


class _Received(NamedTuple):
    resumed: bool
    num_bytes: int
    content_type: str


def _transfer(url: str, part: Path, start: int, timeout_s: float) -> _Received:
    """One request: appends to ``part`` from byte ``start`` on, or writes it anew where the server sends all."""
    from tqdm import tqdm  # here, because every command imports the oracles

    headers = {"User-Agent": f"vkdnw_pl/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and start:  # our beginning is longer than the file
            part.unlink()
            raise _TransientError(f"the server has no bytes after {start:,}; the beginning was deleted") from error
        if error.code in _TRANSIENT_STATUS:
            raise _TransientError(f"HTTP {error.code} {error.reason}") from error
        raise FetchError(f"could not fetch {url}: HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _TransientError(str(error.reason)) from error
    except http.client.InvalidURL as error:
        raise FetchError(f"could not fetch {url}: {error}") from error
    except (OSError, http.client.HTTPException) as error:  # the line broke before the headers were complete
        raise _TransientError(f"{type(error).__name__}: {error}") from error

    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.unlink()
            raise _TransientError("the server continued at another byte than asked; the beginning was deleted")
        done = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length and length.isdigit() else None
        progress = tqdm(desc=part.stem, total=total, initial=done, unit="B", unit_scale=True)
        with part.open("ab" if resumed else "wb") as file, progress:
            while total is None or done < total:
                try:
                    chunk = response.read1(_CHUNK_BYTES)
                except (OSError, http.client.HTTPException) as error:
                    raise _TransientError(f"{type(error).__name__}: {error}") from error
                if not chunk:
                    break
                file.write(chunk)
                file.flush()  # so that even kill -9 loses nothing that came
                done += len(chunk)
                progress.update(len(chunk))
        if total is not None and done < total:
            raise _TransientError(f"the transfer ended after {done:,} of {total:,} bytes")
        return _Received(resumed, done, response.headers.get("Content-Type", "unknown"))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
