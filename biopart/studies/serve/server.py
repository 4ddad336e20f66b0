"""Serve the page of a run until it is stopped."""

import ipaddress
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from biopart.nn.model import load
from biopart.run import Run
from biopart.studies.serve.app import LOCAL, make_app
from biopart.studies.serve.jobs import Jobs
from biopart.verbs.stage import require_stager


def serve(
    run: Run,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limit_mb: int = 500,
    keep_min: float = 60.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Serve until stopped.

    Parameters
    ----------
    run : Run
        A fine-tuning of recordings.
    host, port : str, int
        Where to listen.
    token : str, optional
        Required from every visitor; needed unless the host is this machine only.
    limit_mb : int
        Largest upload in megabytes.
    keep_min : float
        Minutes after which results are deleted.
    say : callable
        Gets the address.

    Raises
    ------
    ValueError
        If other machines could connect without a token, or the run cannot stage.
    """
    local = is_loopback(host)
    if not local and not token:
        raise ValueError(
            f"{host} can be reached from other machines; give --token SECRET, or leave out --host "
            "to serve this machine only"
        )
    require_stager(load(run))
    with listening_socket(host, port) as listening:  # before the address is printed
        jobs = Jobs(run, keep_s=60.0 * keep_min)
        hosts = LOCAL if local else ("*",)
        app = make_app(jobs, limit_bytes=limit_mb * 10**6, token=token, hosts=hosts)
        name = f"[{host}]" if ":" in host else host
        say(f"http://{name}:{port}/" + (f"?token={token}" if token else ""))
        config = uvicorn.Config(app, log_level="warning", server_header=False)
        with suppress(KeyboardInterrupt):  # uvicorn raises it again after it has closed
            uvicorn.Server(config).run(sockets=[listening])


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address; ValueError if another program uses it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(
            f"port {port} of {host} cannot be used ({error.strerror}); give another --port"
        ) from None


def is_loopback(host: str) -> bool:
    """Tell whether a host can be reached from this machine only.

    Examples
    --------
    >>> [is_loopback(name) for name in ("localhost", "127.0.0.1", "0.0.0.0", "::1")]
    [True, True, False, True]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
