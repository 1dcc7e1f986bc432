"""A web handler (FastAPI): one request at a time renders a report, the others are told who does.

    LOCKSIDECAR_ENDPOINT=unix:///run/locksidecar/api.sock uvicorn web:app
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from locksidecar import LeaseLost, LockHeld, LocksidecarError, Unavailable, aio

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
client: aio.Client
reports: dict[str, int] = {}  # stands for the store: report and the token that wrote it


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    global client
    async with aio.Client(traceparent=traceparent.get) as client:
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(LocksidecarError)
async def refused(_: Request, failure: Exception) -> JSONResponse:
    assert isinstance(failure, LocksidecarError)
    status = 409 if isinstance(failure, (LockHeld, LeaseLost)) else 503 if isinstance(failure, Unavailable) else 500
    return JSONResponse({"reason": failure.reason, "details": failure.details}, status)


@app.post("/reports/{name}")
async def render(name: str, request: Request, seconds: float = 0.0) -> dict[str, int | str]:
    traceparent.set(request.headers.get("traceparent"))
    async with client.lock(f"reports/{name}", ttl=10, wait=0, cancel_on_loss=True) as lease:
        await asyncio.sleep(seconds)  # the work
        if reports.get(name, 0) > lease.fencing_token:
            raise LeaseLost("a later request has written it")
        reports[name] = lease.fencing_token
        return {"report": name, "token": str(lease.fencing_token)}
