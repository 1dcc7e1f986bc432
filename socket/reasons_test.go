package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

func TestEverySentinelHasARow(t *testing.T) {
	for _, sentinel := range driver.Sentinels() {
		found := 0
		for _, r := range rows {
			if errors.Is(r.is, sentinel) && r.is == sentinel { //nolint:errorlint // the very value
				found++
			}
		}
		if found != 1 {
			t.Errorf("%v has %d rows, want 1", sentinel, found)
		}
		if got := reasonOf(fmt.Errorf("acquire %q: %w", "a", sentinel)); got.Name == internal.Name {
			t.Errorf("%v is INTERNAL to a client", sentinel)
		}
	}
	for _, r := range rows {
		if got := reasonOf(r.is); got.Name != r.reason.Name {
			t.Errorf("%v is answered with %s, its row says %s", r.is, got.Name, r.reason.Name)
		}
	}
}

func TestReasonsAreWhole(t *testing.T) {
	for _, r := range Reasons() {
		if r.Name == "" || r.Code == codes.OK || r.HTTP < 400 || r.Meaning == "" {
			t.Errorf("the row of %q is not whole: %+v", r.Name, r)
		}
		if retry := r.Code == codes.Unavailable; retry != (r.Retry > 0) {
			t.Errorf("%s: UNAVAILABLE %t, but retry after %v", r.Name, retry, r.Retry)
		}
	}
}

func TestDescribe(t *testing.T) {
	secret := errors.New("dial tcp 10.0.0.7:6379: password hunter2")
	for _, c := range []struct {
		name     string
		err      error
		reason   string
		code     codes.Code
		metadata map[string]string
		field    string
	}{
		{"held", &driver.HeldError{Holder: &driver.Holder{OwnerID: "o", Remaining: 1500 * time.Millisecond}, QueueLength: 2}, "LOCK_HELD", codes.Aborted,
			map[string]string{"holder": "o", "remaining": "1.5s", "queue_length": "2", "held_by_self": "false"}, ""},
		{"held by waiters", &driver.HeldError{QueueLength: 2}, "LOCK_HELD", codes.Aborted, map[string]string{"queue_length": "2", "held_by_self": "false"}, ""},
		{"held by itself", &driver.HeldError{BySelf: true}, "LOCK_HELD", codes.Aborted, map[string]string{"queue_length": "0", "held_by_self": "true"}, ""},
		{"lost", driver.Lost(driver.CauseExpired), "LEASE_LOST", codes.Aborted, map[string]string{"cause": "expired"}, ""},
		{"stale", &driver.TokenError{Expected: 2, Actual: 1}, "STALE_TOKEN", codes.Aborted, map[string]string{"expected": "2", "actual": "1"}, ""},
		{"no such waiter", driver.ErrNoPlace, "NO_SUCH_WAITER", codes.Aborted, nil, ""},
		{"not the owner", driver.ErrNotOwner, "NOT_OWNER", codes.Aborted, nil, ""},
		{"unavailable", errors.Join(driver.ErrUnavailable, secret), "BACKEND_UNAVAILABLE", codes.Unavailable, map[string]string{"backend": "b"}, ""},
		{"breaker open", driver.ErrBreakerOpen, "BREAKER_OPEN", codes.Unavailable, map[string]string{"backend": "b"}, ""},
		{"unavailable by a deadline", errors.Join(driver.ErrUnavailable, context.DeadlineExceeded), "BACKEND_UNAVAILABLE", codes.Unavailable, map[string]string{"backend": "b"}, ""},
		{"indeterminate", &requestError{errors.Join(driver.ErrIndeterminate, secret), "r"}, "OUTCOME_UNKNOWN", codes.Unknown, map[string]string{"backend": "b", "request_id": "r"}, ""},
		{"indeterminate, then unavailable", &requestError{errors.Join(driver.ErrIndeterminate, driver.ErrUnavailable), "r"}, "OUTCOME_UNKNOWN", codes.Unknown, map[string]string{"backend": "b", "request_id": "r"}, ""},
		{"indeterminate, then refused by the breaker", &requestError{errors.Join(driver.ErrIndeterminate, driver.ErrBreakerOpen), "r"}, "OUTCOME_UNKNOWN", codes.Unknown, map[string]string{"backend": "b", "request_id": "r"}, ""},
		{"invalid field", &backend.InvalidError{Field: "lock_id", Reason: "is empty", Limits: "bytes"}, "INVALID_LOCK_ID", codes.InvalidArgument, map[string]string{"limits": "bytes"}, "lock_id"},
		{"unknown field", badRequest("wiat", "is no field", "fields"), "INVALID_REQUEST", codes.InvalidArgument, map[string]string{"limits": "fields"}, "wiat"},
		{"invalid without a field", errors.Join(driver.ErrInvalid, secret), "INVALID_REQUEST", codes.InvalidArgument, nil, ""},
		{"ambiguous", driver.ErrAmbiguousHold, "INVALID_REQUEST_ID", codes.InvalidArgument, nil, "request_id"},
		{"limit of the store", driver.ErrLimit, "LIMIT_EXCEEDED", codes.ResourceExhausted, map[string]string{"limit": "waiters of the lock"}, ""},
		{"limit of the peer", &limitError{"leases", 5}, "LIMIT_EXCEEDED", codes.ResourceExhausted, map[string]string{"limit": "leases"}, ""},
		{"deadlock", &backend.DeadlockError{Hidden: 1, Cycle: []backend.Wait{{Backend: "r", LockID: "x", OwnerID: "a", For: "b", Token: 7}, {LockID: "y", OwnerID: "b", For: "c"}}}, "DEADLOCK", codes.Aborted,
			map[string]string{"cycle_length": "3", "cycle": `[{"backend":"r","lock_id":"x","owner_id":"a","waits_for":"b","fencing_token":"7"},{"lock_id":"y","owner_id":"b","waits_for":"c","fencing_token":"0"}]`}, ""},
		{"caller left", context.Canceled, "CANCELLED", codes.Canceled, nil, ""},
		{"unknown", secret, "INTERNAL", codes.Internal, nil, ""},
		{"unknown too", io.ErrUnexpectedEOF, "INTERNAL", codes.Internal, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := describe(fmt.Errorf("acquire %q: %w", "a", c.err), "b")
			if a.info.GetReason() != c.reason || a.info.GetDomain() != Domain || a.reason.Code != c.code {
				t.Errorf("%s, %v; want %s, %v", a.info.GetReason(), a.reason.Code, c.reason, c.code)
			}
			if diff := cmp.Diff(c.metadata, a.info.GetMetadata()); diff != "" {
				t.Errorf("metadata (-want +got):\n%s", diff)
			}
			for key := range a.info.GetMetadata() {
				if !strings.Contains(strings.Join(a.reason.Metadata, " "), key) {
					t.Errorf("the table does not name the metadata %s", key)
				}
			}
			st := status.Convert(a.status())
			if st.Code() != c.code || st.Message() == "" {
				t.Errorf("the status is %v", st)
			}
			text := fmt.Sprint(st.Message(), st.Details())
			if strings.Contains(text, "hunter2") || strings.Contains(text, "10.0.0.7") {
				t.Errorf("the store's text reached the client: %s", text)
			}
			if _, ok := st.Details()[0].(*errdetails.ErrorInfo); !ok {
				t.Errorf("the first detail is %T", st.Details()[0])
			}
			if got := a.fields.GetFieldViolations(); (c.field == "") != (len(got) == 0) || c.field != "" && got[0].GetField() != c.field {
				t.Errorf("field violations %v, want of %q", got, c.field)
			}
			if got := a.event(); codes.Code(got.GetCode()) != c.code || len(got.GetDetails()) != len(st.Details()) {
				t.Errorf("over Hold it is %v", got)
			}
		})
	}
}

// However long a cycle is, what is told of it fits into a header.
func TestLongCycleFits(t *testing.T) {
	e := &backend.DeadlockError{}
	for range 1000 {
		e.Cycle = append(e.Cycle, backend.Wait{LockID: strings.Repeat("l", 255), OwnerID: strings.Repeat("o", 128), For: strings.Repeat("o", 128)})
	}
	a := describe(e, "b")
	if m := a.info.GetMetadata(); len(m["cycle"]) > maxCycle+1 || !strings.HasSuffix(m["cycle"], "}]") || m["cycle_length"] != "1000" {
		t.Errorf("%d bytes, length %s", len(m["cycle"]), m["cycle_length"])
	}
	if len(a.text) > 8*700 || !strings.HasSuffix(a.text, "and 992 more") {
		t.Errorf("the text has %d bytes: …%s", len(a.text), a.text[len(a.text)-30:])
	}
}
