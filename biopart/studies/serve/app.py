"""The pages and addresses of ``biopart serve``.

``GET /`` asks for a night, ``POST /nights`` takes one, or one with its hypnogram, or several,
``GET /nights/KEY`` shows its progress, ``/nights/KEY/state`` the same as JSON, ``POST
/nights/KEY/again`` stages a failed night again, ``/nights/KEY/FILE`` returns a result, ``all.zip``
all results.
"""

import io
import secrets
import shutil
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
)
from starlette.routing import Route

from biopart import pages
from biopart.signals.readers import open_recording
from biopart.studies.serve.jobs import Job, Jobs, options_of, safe_name

RECORDINGS = (".edf", ".bdf", ".fif")
TAKEN = (*RECORDINGS, ".csv", ".tsv", ".txt", ".xml", ".npy")
LOCAL = ("127.0.0.1", "localhost", "[::1]")
COOKIE = "biopart_token"
HERE = Path(__file__).parent
Next = Callable[[Request], Awaitable[Response]]


def make_app(
    jobs: Jobs, *, limit_bytes: int, token: str | None = None, hosts: tuple[str, ...] = LOCAL
) -> Starlette:
    """Make the application.

    Parameters
    ----------
    jobs : Jobs
        Stages the nights; closed with the application.
    limit_bytes : int
        Largest upload.
    token : str, optional
        Required from every visitor: ``?token=`` once, which sets a cookie, or a bearer header.
    hosts : tuple of str
        Host names that the server answers to, ``*`` for any: this stops pages of other sites that
        reach the server under another name (DNS rebinding).
    """

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        yield
        jobs.close()

    views = Views(jobs, limit_bytes)
    return Starlette(
        routes=[
            Route("/", views.front),
            Route("/nights", views.take, methods=["POST"]),
            Route("/nights/{key}", views.night),
            Route("/nights/{key}/state", views.state),
            Route("/nights/{key}/delete", views.delete, methods=["POST"]),
            Route("/nights/{key}/again", views.again, methods=["POST"]),
            Route("/nights/{key}/{name}", views.file),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
            Middleware(BaseHTTPMiddleware, dispatch=guard(token)),
        ],
        exception_handlers={HTTPException: refusal},
        lifespan=life,
    )


def guard(token: str | None) -> Callable[[Request, Next], Awaitable[Response]]:
    """Return the checks of every request: token, no call from another site, strict headers."""

    async def dispatch(request: Request, go_on: Next) -> Response:
        if token is not None and not has_token(request, token):
            if is_same(request.query_params.get("token", ""), token):
                answer: Response = RedirectResponse(request.url.path, 303)
                answer.set_cookie(COOKIE, token, httponly=True, samesite="strict")
                return answer
            return page(
                "error.html.jinja",
                403,
                message="this server needs its token; open the address that it printed",
            )
        origin = request.headers.get("origin")
        foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
        if foreign and request.method != "GET":
            return page("error.html.jinja", 403, message="another site may not send nights")
        answer = await go_on(request)
        answer.headers.setdefault("Content-Security-Policy", POLICY)
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "same-origin"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    return dispatch


POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-src 'self'; frame-ancestors 'self'; base-uri 'none'"
)


def has_token(request: Request, token: str) -> bool:
    """Tell whether a request has the token as a cookie or a bearer header."""
    _, _, bearer = request.headers.get("authorization", "").partition("Bearer ")
    given = (request.cookies.get(COOKIE, ""), bearer)
    return any(is_same(one, token) for one in given)


def is_same(given: str, token: str) -> bool:
    """Compare in constant time, also text that is not ASCII."""
    return secrets.compare_digest(given.encode(), token.encode())


class Views:
    """What is answered at each address."""

    def __init__(self, jobs: Jobs, limit_bytes: int) -> None:
        self.jobs, self.limit_bytes = jobs, limit_bytes

    async def front(self, request: Request) -> Response:
        """Ask for a night."""
        return page_with_script(
            "front.html.jinja",
            run=self.jobs.run.finetuned().path.relative_to(self.jobs.run.pretrained().path.parent),
            limit_mb=self.limit_bytes // 10**6,
            keep_min=round(self.jobs.keep_s / 60),
            recordings=", ".join(RECORDINGS),
        )

    async def take(self, request: Request) -> Response:
        """Take a night: write it into a folder of its own and queue it."""
        form = await self._form(request)
        try:
            job = await self._queued(form)
        except ValueError as error:
            raise HTTPException(422, " ".join(str(error).split())) from error
        finally:
            await form.close()
        return RedirectResponse(f"/nights/{job.key}", 303)

    async def _form(self, request: Request) -> FormData:
        """Read a form that is no larger than allowed, whatever size it declares."""
        content_length = request.headers.get("content-length", "")
        too_large = HTTPException(
            413, f"the files are larger than the limit of {self.limit_bytes // 10**6} MB"
        )
        if content_length.isdigit() and int(content_length) > self.limit_bytes:
            raise too_large

        async def counted() -> AsyncGenerator[bytes, None]:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > self.limit_bytes:
                    raise too_large
                yield chunk

        try:
            return await MultiPartParser(request.headers, counted()).parse()
        except ClientDisconnect as error:
            raise HTTPException(400, "the connection was closed during the upload") from error
        except (MultiPartException, KeyError) as error:
            raise HTTPException(400, "send a form with a file in the field night") from error

    async def _queued(self, form: FormData) -> Job:
        """Write what was sent and queue it: recordings, and an expert's hypnogram of one."""
        sent = [f for key in ("night", "truth") for f in form.getlist(key)]
        files = [file for file in sent if isinstance(file, UploadFile) and file.filename]
        if not files:
            raise ValueError("no file was sent; choose a recording")
        options = options_of({key: text for key, text in form.items() if isinstance(text, str)})
        hypnograms = {f.filename for f in form.getlist("truth") if isinstance(f, UploadFile)}
        folder = self.jobs.new_folder()
        try:
            paths = [await save_upload(f, folder / str(n), TAKEN) for n, f in enumerate(files)]
            truths = [
                path
                for path, file in zip(paths, files, strict=True)
                if file.filename in hypnograms or is_hypnogram(path)
            ]
            nights = [path for path in paths if path not in truths]
            return self._several(nights, truths, options)
        finally:  # accepted files are in folders of their own now; refused ones are not kept
            shutil.rmtree(folder)

    def _several(self, nights: list[Path], truths: list[Path], options: dict[str, Any]) -> Job:
        """Queue one night with its hypnogram, or several without; return the first."""
        if not nights:
            raise ValueError("no recording was sent, only a hypnogram; send both")
        if len(truths) > 1 or (truths and len(nights) > 1):
            raise ValueError(
                f"{len(nights)} recordings and {len(truths)} hypnograms were sent; send one "
                "recording with its hypnogram, or recordings alone"
            )
        jobs = []
        for path in nights:
            own = self.jobs.new_folder()
            recording = path.rename(own / path.name)
            beside = None
            if truths:
                (own / "truth").mkdir()
                beside = truths[0].rename(own / "truth" / truths[0].name)
            try:
                jobs.append(self.jobs.add(recording, path.name, truth=beside, options=options))
            except ValueError:
                shutil.rmtree(own)
                raise
        jobs[0].others = tuple((job.key, job.name) for job in jobs[1:])
        return jobs[0]

    async def again(self, request: Request) -> Response:
        """Stage a failed night again with other channels, without another upload."""
        form = await self._form(request)
        try:
            options = options_of({key: text for key, text in form.items() if isinstance(text, str)})
            job = self.jobs.again(self._job(request), options)
        except ValueError as error:
            raise HTTPException(422, " ".join(str(error).split())) from error
        finally:
            await form.close()
        return RedirectResponse(f"/nights/{job.key}", 303)

    def _job(self, request: Request) -> Job:
        try:
            return self.jobs[request.path_params["key"]]
        except KeyError as error:
            raise HTTPException(404, "this night does not exist or was deleted") from error

    async def night(self, request: Request) -> Response:
        """Show the progress of a night, and its page when it is done."""
        job = self._job(request)
        return page_with_script("night.html.jinja", job=job, state=self._state(job))

    async def state(self, request: Request) -> Response:
        """Return the progress of a night as JSON."""
        return JSONResponse(self._state(self._job(request)))

    def _state(self, job: Job) -> dict[str, Any]:
        before = self.jobs.before(job) if job.state == "waiting" else 0
        return {"state": job.state, "before": before, "error": job.error}

    async def file(self, request: Request) -> Response:
        """Give one result, or all as a zip."""
        job, name = self._job(request), request.path_params["name"]
        if job.state != "done":
            raise HTTPException(404, "this night is not staged yet")
        if name == "all.zip":
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
                for one, path in job.files.items():
                    archive.write(path, one)
            headers = {"Content-Disposition": f'attachment; filename="{Path(job.name).stem}.zip"'}
            return Response(content.getvalue(), media_type="application/zip", headers=headers)
        if name not in job.files:
            raise HTTPException(404, f"the files of this night are {', '.join(job.files)}")
        shown = "inline" if name == "night.html" else "attachment"
        return FileResponse(job.files[name], filename=name, content_disposition_type=shown)

    async def delete(self, request: Request) -> Response:
        """Delete a night's files now."""
        self.jobs.remove(self._job(request).key)
        return RedirectResponse("/", 303)


def is_hypnogram(path: Path) -> bool:
    """Tell a hypnogram from a recording: a text file, or EDF with annotations and no signal."""
    if path.suffix.lower() not in RECORDINGS:
        return True
    try:
        return not open_recording(path).channels
    except (ValueError, OSError):  # staging reports what is wrong
        return False


async def save_upload(sent: UploadFile, folder: Path, suffixes: tuple[str, ...]) -> Path:
    """Write an uploaded file into a new folder; ValueError if its type is not accepted."""
    folder.mkdir()
    path = folder / safe_name(str(sent.filename))
    if path.suffix.lower() not in suffixes:
        raise ValueError(
            f"{path.name} is not of an accepted type; send one of {', '.join(suffixes)}"
        )
    with path.open("wb") as file:
        while chunk := await sent.read(1 << 20):
            file.write(chunk)
    return path


def page(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Fill a page of this folder."""
    return HTMLResponse(pages.render(HERE / template, **values), status)


def page_with_script(template: str, **values: Any) -> HTMLResponse:
    """Fill a page whose own script, and no other, may run and call this server."""
    nonce = secrets.token_urlsafe(16)
    answer = page(template, nonce=nonce, **values)
    allowed = f"{POLICY}; script-src 'nonce-{nonce}'; connect-src 'self'"
    answer.headers["Content-Security-Policy"] = allowed
    return answer


async def refusal(request: Request, error: Exception) -> Response:
    """Show on a page what was wrong with a request."""
    assert isinstance(error, HTTPException)
    return page("error.html.jinja", error.status_code, message=error.detail)
