import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AcquireRequest(_message.Message):
    __slots__ = ("lock_id", "owner_id", "ttl", "wait", "shared", "reentrant", "priority", "metadata", "request_id", "lease_id", "token_floor", "max_hold", "linger")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    REENTRANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FLOOR_FIELD_NUMBER: _ClassVar[int]
    MAX_HOLD_FIELD_NUMBER: _ClassVar[int]
    LINGER_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    owner_id: str
    ttl: _duration_pb2.Duration
    wait: _duration_pb2.Duration
    shared: bool
    reentrant: bool
    priority: int
    metadata: _containers.ScalarMap[str, str]
    request_id: str
    lease_id: str
    token_floor: int
    max_hold: _duration_pb2.Duration
    linger: bool
    def __init__(self, lock_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., shared: bool = ..., reentrant: bool = ..., priority: _Optional[int] = ..., metadata: _Optional[_Mapping[str, str]] = ..., request_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., token_floor: _Optional[int] = ..., max_hold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., linger: bool = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("lock_id", "lease_id", "owner_id", "fencing_token", "shared", "hold_count", "request_id", "ttl", "valid_for", "valid_until_boottime_ns", "expires_at", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    lease_id: str
    owner_id: str
    fencing_token: int
    shared: bool
    hold_count: int
    request_id: str
    ttl: _duration_pb2.Duration
    valid_for: _duration_pb2.Duration
    valid_until_boottime_ns: int
    expires_at: _timestamp_pb2.Timestamp
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, lock_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., shared: bool = ..., hold_count: _Optional[int] = ..., request_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., valid_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., valid_until_boottime_ns: _Optional[int] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("lock_id", "lease_id", "fencing_token", "ttl")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    lease_id: str
    fencing_token: int
    ttl: _duration_pb2.Duration
    def __init__(self, lock_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("lock_id", "lease_id", "fencing_token", "request_id")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    lease_id: str
    fencing_token: int
    request_id: str
    def __init__(self, lock_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("lock_id", "hold_count")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    hold_count: int
    def __init__(self, lock_id: _Optional[str] = ..., hold_count: _Optional[int] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("lock_id",)
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    def __init__(self, lock_id: _Optional[str] = ...) -> None: ...

class Lock(_message.Message):
    __slots__ = ("lock_id", "fencing_token", "holders", "waiters", "backend")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOLDERS_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    fencing_token: int
    holders: _containers.RepeatedCompositeFieldContainer[Holder]
    waiters: _containers.RepeatedCompositeFieldContainer[Waiter]
    backend: str
    def __init__(self, lock_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., holders: _Optional[_Iterable[_Union[Holder, _Mapping]]] = ..., waiters: _Optional[_Iterable[_Union[Waiter, _Mapping]]] = ..., backend: _Optional[str] = ...) -> None: ...

class Holder(_message.Message):
    __slots__ = ("owner_id", "fencing_token", "shared", "hold_count", "ttl", "remaining", "expires_at", "revoked", "metadata", "held_since")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    HELD_SINCE_FIELD_NUMBER: _ClassVar[int]
    owner_id: str
    fencing_token: int
    shared: bool
    hold_count: int
    ttl: _duration_pb2.Duration
    remaining: _duration_pb2.Duration
    expires_at: _timestamp_pb2.Timestamp
    revoked: bool
    metadata: _containers.ScalarMap[str, str]
    held_since: _timestamp_pb2.Timestamp
    def __init__(self, owner_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., shared: bool = ..., hold_count: _Optional[int] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., remaining: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revoked: bool = ..., metadata: _Optional[_Mapping[str, str]] = ..., held_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Waiter(_message.Message):
    __slots__ = ("owner_id", "position", "shared", "priority", "ticket")
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    owner_id: str
    position: int
    shared: bool
    priority: int
    ticket: int
    def __init__(self, owner_id: _Optional[str] = ..., position: _Optional[int] = ..., shared: bool = ..., priority: _Optional[int] = ..., ticket: _Optional[int] = ...) -> None: ...

class HoldRequest(_message.Message):
    __slots__ = ("acquire", "release", "adopt")
    ACQUIRE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ADOPT_FIELD_NUMBER: _ClassVar[int]
    acquire: AcquireRequest
    release: ReleaseRequest
    adopt: AdoptRequest
    def __init__(self, acquire: _Optional[_Union[AcquireRequest, _Mapping]] = ..., release: _Optional[_Union[ReleaseRequest, _Mapping]] = ..., adopt: _Optional[_Union[AdoptRequest, _Mapping]] = ...) -> None: ...

class AdoptRequest(_message.Message):
    __slots__ = ("lock_id", "lease_id", "fencing_token", "request_id", "ttl", "max_hold", "linger")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TTL_FIELD_NUMBER: _ClassVar[int]
    MAX_HOLD_FIELD_NUMBER: _ClassVar[int]
    LINGER_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    lease_id: str
    fencing_token: int
    request_id: str
    ttl: _duration_pb2.Duration
    max_hold: _duration_pb2.Duration
    linger: bool
    def __init__(self, lock_id: _Optional[str] = ..., lease_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., request_id: _Optional[str] = ..., ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_hold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., linger: bool = ...) -> None: ...

class HoldResponse(_message.Message):
    __slots__ = ("request_id", "lock_id", "queued", "granted", "at_risk", "lost", "released", "error", "renewed")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    AT_RISK_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    lock_id: str
    queued: Queued
    granted: Lease
    at_risk: AtRisk
    lost: Lost
    released: ReleaseResponse
    error: Error
    renewed: Lease
    def __init__(self, request_id: _Optional[str] = ..., lock_id: _Optional[str] = ..., queued: _Optional[_Union[Queued, _Mapping]] = ..., granted: _Optional[_Union[Lease, _Mapping]] = ..., at_risk: _Optional[_Union[AtRisk, _Mapping]] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ..., released: _Optional[_Union[ReleaseResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., renewed: _Optional[_Union[Lease, _Mapping]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("position", "queue_length")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    position: int
    queue_length: int
    def __init__(self, position: _Optional[int] = ..., queue_length: _Optional[int] = ...) -> None: ...

class AtRisk(_message.Message):
    __slots__ = ("fencing_token", "valid_for", "valid_until_boottime_ns")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VALID_FOR_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_BOOTTIME_NS_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    valid_for: _duration_pb2.Duration
    valid_until_boottime_ns: int
    def __init__(self, fencing_token: _Optional[int] = ..., valid_for: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., valid_until_boottime_ns: _Optional[int] = ...) -> None: ...

class Lost(_message.Message):
    __slots__ = ("fencing_token", "reason")
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    fencing_token: int
    reason: str
    def __init__(self, fencing_token: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("prefix", "contended", "page_size", "page_token")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    CONTENDED_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    contended: bool
    page_size: int
    page_token: str
    def __init__(self, prefix: _Optional[str] = ..., contended: bool = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("locks", "next_page_token", "failed")
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    locks: _containers.RepeatedCompositeFieldContainer[Lock]
    next_page_token: str
    failed: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, locks: _Optional[_Iterable[_Union[Lock, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., failed: _Optional[_Iterable[str]] = ...) -> None: ...

class ForceReleaseRequest(_message.Message):
    __slots__ = ("lock_id", "fencing_token", "reason", "immediate")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IMMEDIATE_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    fencing_token: int
    reason: str
    immediate: bool
    def __init__(self, lock_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., reason: _Optional[str] = ..., immediate: bool = ...) -> None: ...

class ForceReleaseResponse(_message.Message):
    __slots__ = ("lock_id", "holder", "ended")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    holder: Holder
    ended: bool
    def __init__(self, lock_id: _Optional[str] = ..., holder: _Optional[_Union[Holder, _Mapping]] = ..., ended: bool = ...) -> None: ...

class CancelWaiterRequest(_message.Message):
    __slots__ = ("lock_id", "ticket", "reason")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    ticket: int
    reason: str
    def __init__(self, lock_id: _Optional[str] = ..., ticket: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelWaiterResponse(_message.Message):
    __slots__ = ("lock_id", "waiter")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    WAITER_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    waiter: Waiter
    def __init__(self, lock_id: _Optional[str] = ..., waiter: _Optional[_Union[Waiter, _Mapping]] = ...) -> None: ...

class ReprioritizeRequest(_message.Message):
    __slots__ = ("lock_id", "ticket", "priority", "reason", "first")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    ticket: int
    priority: int
    reason: str
    first: bool
    def __init__(self, lock_id: _Optional[str] = ..., ticket: _Optional[int] = ..., priority: _Optional[int] = ..., reason: _Optional[str] = ..., first: bool = ...) -> None: ...

class ReprioritizeResponse(_message.Message):
    __slots__ = ("lock_id", "waiter")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    WAITER_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    waiter: Waiter
    def __init__(self, lock_id: _Optional[str] = ..., waiter: _Optional[_Union[Waiter, _Mapping]] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("lock_id", "reason", "wait", "max_hold")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    MAX_HOLD_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    reason: str
    wait: _duration_pb2.Duration
    max_hold: _duration_pb2.Duration
    def __init__(self, lock_id: _Optional[str] = ..., reason: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_hold: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("prefix", "after")
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    prefix: str
    after: str
    def __init__(self, prefix: _Optional[str] = ..., after: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("id", "cursor", "time", "type", "lock_id", "owner_id", "fencing_token", "shared", "reason", "position", "queue_length", "hold_count", "ended", "missed", "deadlock", "operator", "ticket", "priority")
    ID_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_LENGTH_FIELD_NUMBER: _ClassVar[int]
    HOLD_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    DEADLOCK_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    id: str
    cursor: str
    time: _timestamp_pb2.Timestamp
    type: str
    lock_id: str
    owner_id: str
    fencing_token: int
    shared: bool
    reason: str
    position: int
    queue_length: int
    hold_count: int
    ended: bool
    missed: int
    deadlock: Deadlock
    operator: str
    ticket: int
    priority: int
    def __init__(self, id: _Optional[str] = ..., cursor: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., type: _Optional[str] = ..., lock_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., fencing_token: _Optional[int] = ..., shared: bool = ..., reason: _Optional[str] = ..., position: _Optional[int] = ..., queue_length: _Optional[int] = ..., hold_count: _Optional[int] = ..., ended: bool = ..., missed: _Optional[int] = ..., deadlock: _Optional[_Union[Deadlock, _Mapping]] = ..., operator: _Optional[str] = ..., ticket: _Optional[int] = ..., priority: _Optional[int] = ...) -> None: ...

class Deadlock(_message.Message):
    __slots__ = ("id", "waits", "victim")
    ID_FIELD_NUMBER: _ClassVar[int]
    WAITS_FIELD_NUMBER: _ClassVar[int]
    VICTIM_FIELD_NUMBER: _ClassVar[int]
    id: str
    waits: _containers.RepeatedCompositeFieldContainer[Wait]
    victim: int
    def __init__(self, id: _Optional[str] = ..., waits: _Optional[_Iterable[_Union[Wait, _Mapping]]] = ..., victim: _Optional[int] = ...) -> None: ...

class Wait(_message.Message):
    __slots__ = ("lock_id", "backend", "owner_id", "ticket", "shared", "waits_for", "fencing_token")
    LOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    WAITS_FOR_FIELD_NUMBER: _ClassVar[int]
    FENCING_TOKEN_FIELD_NUMBER: _ClassVar[int]
    lock_id: str
    backend: str
    owner_id: str
    ticket: int
    shared: bool
    waits_for: str
    fencing_token: int
    def __init__(self, lock_id: _Optional[str] = ..., backend: _Optional[str] = ..., owner_id: _Optional[str] = ..., ticket: _Optional[int] = ..., shared: bool = ..., waits_for: _Optional[str] = ..., fencing_token: _Optional[int] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ("find_deadlocks",)
    FIND_DEADLOCKS_FIELD_NUMBER: _ClassVar[int]
    find_deadlocks: bool
    def __init__(self, find_deadlocks: bool = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("build", "backends", "leases_held", "waiters", "draining", "configuration", "deadlocks", "deadlock_search")
    BUILD_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    LEASES_HELD_FIELD_NUMBER: _ClassVar[int]
    WAITERS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    DEADLOCKS_FIELD_NUMBER: _ClassVar[int]
    DEADLOCK_SEARCH_FIELD_NUMBER: _ClassVar[int]
    build: Build
    backends: _containers.RepeatedCompositeFieldContainer[Backend]
    leases_held: int
    waiters: int
    draining: bool
    configuration: Configuration
    deadlocks: _containers.RepeatedCompositeFieldContainer[Deadlock]
    deadlock_search: DeadlockSearch
    def __init__(self, build: _Optional[_Union[Build, _Mapping]] = ..., backends: _Optional[_Iterable[_Union[Backend, _Mapping]]] = ..., leases_held: _Optional[int] = ..., waiters: _Optional[int] = ..., draining: bool = ..., configuration: _Optional[_Union[Configuration, _Mapping]] = ..., deadlocks: _Optional[_Iterable[_Union[Deadlock, _Mapping]]] = ..., deadlock_search: _Optional[_Union[DeadlockSearch, _Mapping]] = ...) -> None: ...

class DeadlockSearch(_message.Message):
    __slots__ = ("time", "locks", "truncated", "failed", "detect", "resolve")
    TIME_FIELD_NUMBER: _ClassVar[int]
    LOCKS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DETECT_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    locks: int
    truncated: bool
    failed: _containers.RepeatedScalarFieldContainer[str]
    detect: bool
    resolve: bool
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., locks: _Optional[int] = ..., truncated: bool = ..., failed: _Optional[_Iterable[str]] = ..., detect: bool = ..., resolve: bool = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("loaded_at", "reloads", "refused", "stale")
    LOADED_AT_FIELD_NUMBER: _ClassVar[int]
    RELOADS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    loaded_at: _timestamp_pb2.Timestamp
    reloads: int
    refused: int
    stale: bool
    def __init__(self, loaded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reloads: _Optional[int] = ..., refused: _Optional[int] = ..., stale: bool = ...) -> None: ...

class Build(_message.Message):
    __slots__ = ("version", "revision", "go_version")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    GO_VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    revision: str
    go_version: str
    def __init__(self, version: _Optional[str] = ..., revision: _Optional[str] = ..., go_version: _Optional[str] = ...) -> None: ...

class Backend(_message.Message):
    __slots__ = ("name", "driver", "serving", "reason", "breaker", "capabilities", "retired", "servers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    SERVING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BREAKER_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    RETIRED_FIELD_NUMBER: _ClassVar[int]
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    driver: str
    serving: bool
    reason: str
    breaker: str
    capabilities: Capabilities
    retired: bool
    servers: _containers.RepeatedCompositeFieldContainer[Server]
    def __init__(self, name: _Optional[str] = ..., driver: _Optional[str] = ..., serving: bool = ..., reason: _Optional[str] = ..., breaker: _Optional[str] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., retired: bool = ..., servers: _Optional[_Iterable[_Union[Server, _Mapping]]] = ...) -> None: ...

class Server(_message.Message):
    __slots__ = ("role", "version", "run_id", "persistence", "eviction_policy", "warnings", "refused", "checked_at")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    PERSISTENCE_FIELD_NUMBER: _ClassVar[int]
    EVICTION_POLICY_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CHECKED_AT_FIELD_NUMBER: _ClassVar[int]
    role: str
    version: str
    run_id: str
    persistence: str
    eviction_policy: str
    warnings: _containers.RepeatedScalarFieldContainer[str]
    refused: str
    checked_at: _timestamp_pb2.Timestamp
    def __init__(self, role: _Optional[str] = ..., version: _Optional[str] = ..., run_id: _Optional[str] = ..., persistence: _Optional[str] = ..., eviction_policy: _Optional[str] = ..., warnings: _Optional[_Iterable[str]] = ..., refused: _Optional[str] = ..., checked_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("min_ttl", "max_ttl", "lateness", "poll", "shared", "max_waiters", "watch", "expiry_at_once", "clock", "durability", "retention", "expiry_events", "edit_queue")
    MIN_TTL_FIELD_NUMBER: _ClassVar[int]
    MAX_TTL_FIELD_NUMBER: _ClassVar[int]
    LATENESS_FIELD_NUMBER: _ClassVar[int]
    POLL_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITERS_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    DURABILITY_FIELD_NUMBER: _ClassVar[int]
    RETENTION_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_EVENTS_FIELD_NUMBER: _ClassVar[int]
    EDIT_QUEUE_FIELD_NUMBER: _ClassVar[int]
    min_ttl: _duration_pb2.Duration
    max_ttl: _duration_pb2.Duration
    lateness: _duration_pb2.Duration
    poll: _duration_pb2.Duration
    shared: bool
    max_waiters: int
    watch: bool
    expiry_at_once: bool
    clock: str
    durability: str
    retention: _duration_pb2.Duration
    expiry_events: bool
    edit_queue: bool
    def __init__(self, min_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lateness: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., poll: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., shared: bool = ..., max_waiters: _Optional[int] = ..., watch: bool = ..., expiry_at_once: bool = ..., clock: _Optional[str] = ..., durability: _Optional[str] = ..., retention: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., expiry_events: bool = ..., edit_queue: bool = ...) -> None: ...
