"""The exceptions are those of the sidecar's own table."""

from __future__ import annotations

import re

import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2

import locksidecar
from locksidecar import errors
from locksidecar.v1 import lock_pb2
from tests.conftest import ROOT, Sidecar


def reasons_of_the_sidecar() -> set[str]:
    text = (ROOT / "socket" / "reasons.go").read_text()
    found = re.findall(r'Name: "([A-Z_…]+)".*?Meaning: +"(.*?)"', text, re.DOTALL)
    assert len(found) > 15
    return {name for name, meaning in found if not meaning.startswith("HTTP only")}


def test_each_reason_has_one_exception() -> None:
    classes = [cls for cls in errors._classes(errors.LocksidecarError) if cls not in (errors.Unavailable, errors.Forked)]
    names = [cls.REASON for cls in classes]
    assert len(set(names)) == len(names)
    assert set(names) == reasons_of_the_sidecar()
    assert {cls.__name__ for cls in classes} < set(locksidecar.__all__)


def message(reason: str, code: int = 10) -> lock_pb2.Error:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain="locksidecar.dev", metadata={"limits": "1s to 60s"}))
    return lock_pb2.Error(code=code, message="text", details=[info])


@pytest.mark.parametrize("cls", list(errors._classes(errors.LocksidecarError)), ids=lambda cls: cls.__name__)
def test_a_reason_is_raised_as_its_exception(cls: type[errors.LocksidecarError]) -> None:
    assert type(errors.from_message(message(cls.REASON))) is cls


def test_fields_and_reasons_of_a_later_version_are_named() -> None:
    ttl = errors.from_message(message("INVALID_TTL"))
    assert type(ttl) is errors.Invalid and ttl.reason == "INVALID_TTL" and ttl.details == {"limits": "1s to 60s"}
    later = errors.from_message(message("NEVER_HEARD_OF", code=14))
    assert type(later) is errors.Unavailable and later.reason == "NEVER_HEARD_OF"


def test_a_call_that_answers_at_once_raises_the_reason(sidecar: Sidecar) -> None:
    with locksidecar.Client(sidecar.endpoint) as client:
        with pytest.raises(errors.Invalid) as refused:
            client.get("a//b")
        assert refused.value.reason == "INVALID_LOCK_ID"
        with pytest.raises(errors.LeaseLost):
            client.force_release("a", 7, "nobody has it")


def test_a_sidecar_that_stays_away_is_unavailable_after_the_patience(absent: Sidecar) -> None:
    with locksidecar.Client(absent.endpoint, patience=0.5) as client:
        with pytest.raises(errors.Unavailable):
            client.get("a")
        with pytest.raises(errors.Unavailable):
            client.acquire("a")
        with pytest.raises(errors.Unavailable):
            client.acquire("a", wait=0)
