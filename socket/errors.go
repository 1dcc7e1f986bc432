package socket

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// requestError names the request whose outcome it is: a caller that did not
// choose the id needs it to repeat.
type requestError struct {
	err       error
	requestID string
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// answer is an error as clients see it.
type answer struct {
	reason Reason
	text   string
	info   *errdetails.ErrorInfo
	fields *errdetails.BadRequest
}

// describe turns an error into the answer for a client. What the error's text
// may carry of a store stays out of it; texts of this module's typed errors are
// made for clients.
func describe(err error, backendName string) *answer {
	r := reasonOf(err)
	a := &answer{reason: r, text: r.Meaning, info: &errdetails.ErrorInfo{Reason: r.Name, Domain: Domain}}
	var (
		held    *driver.HeldError
		lost    *driver.LostError
		token   *driver.TokenError
		limit   *limitError
		invalid *backend.InvalidError
		request *requestError
		stuck   *backend.DeadlockError
	)
	switch {
	case errors.As(err, &held):
		a.held(held)
	case errors.As(err, &lost):
		a.text = lost.Error()
		a.set("cause", string(lost.Cause))
	case errors.As(err, &token):
		a.text = token.Error()
		a.set("expected", strconv.FormatInt(token.Expected, 10))
		a.set("actual", strconv.FormatInt(token.Actual, 10))
	case errors.As(err, &stuck):
		a.deadlock(stuck)
	case errors.As(err, &limit):
		a.text = limit.Error()
		a.set("limit", limit.limit)
	case r.Code == codes.ResourceExhausted:
		a.set("limit", "waiters of the lock")
	case errors.As(err, &invalid):
		a.invalid(invalid)
	case errors.Is(err, driver.ErrInvalid):
		a.info.Reason, a.text = "INVALID_REQUEST", "the request is not valid"
	case errors.Is(err, driver.ErrAmbiguousHold):
		a.fields = violation("request_id", r.Meaning)
	case errors.Is(err, ErrNoRoute):
		a.fields = violation("lock_id", r.Meaning)
	case errors.Is(err, errLeaving):
		a.set("leases", "left")
	}
	for _, key := range r.Metadata {
		switch {
		case key == "backend":
			var from interface{ Backend() string }
			if errors.As(err, &from) {
				backendName = from.Backend()
			}
			a.set(key, backendName)
		case key == "request_id" && errors.As(err, &request):
			a.set(key, request.requestID)
		}
	}
	return a
}

func (a *answer) set(key, value string) {
	if a.info.Metadata == nil {
		a.info.Metadata = make(map[string]string, len(a.reason.Metadata))
	}
	a.info.Metadata[key] = value
}

func (a *answer) held(e *driver.HeldError) {
	a.text = e.Error()
	a.set("queue_length", strconv.Itoa(e.QueueLength))
	a.set("held_by_self", strconv.FormatBool(e.BySelf))
	if e.OtherMode {
		a.set("other_mode", "true")
	}
	if e.Holder != nil {
		a.set("holder", e.Holder.OwnerID)
		a.set("remaining", e.Holder.Remaining.Round(time.Millisecond).String())
	}
}

func (a *answer) invalid(e *backend.InvalidError) {
	a.text = e.Error()
	if a.reason.Name == "INVALID_…" {
		a.info.Reason = "INVALID_" + strings.ToUpper(e.Field)
	}
	a.set("limits", e.Limits)
	a.fields = violation(e.Field, fmt.Sprintf("%s; allowed: %s", e.Reason, e.Limits))
}

func violation(field, description string) *errdetails.BadRequest {
	return &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}}}
}

// details are those of google.rpc.Status; the first is the ErrorInfo.
func (a *answer) details() []proto.Message {
	details := []proto.Message{a.info}
	if a.reason.Retry > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(a.reason.Retry)})
	}
	if a.fields != nil {
		details = append(details, a.fields)
	}
	return details
}

// anys are the details, packed. Packing cannot fail: the messages are ours,
// and everything in them is valid UTF-8.
func (a *answer) anys() []*anypb.Any {
	packed := make([]*anypb.Any, 0, 3)
	for _, d := range a.details() {
		if p, err := anypb.New(d); err == nil {
			packed = append(packed, p)
		}
	}
	return packed
}

// status is the answer over gRPC.
func (a *answer) status() error {
	details := a.details()
	v1 := make([]protoadapt.MessageV1, len(details))
	for i, d := range details {
		v1[i] = protoadapt.MessageV1Of(d)
	}
	st, err := status.New(a.reason.Code, a.text).WithDetails(v1...)
	if err != nil {
		return status.Error(a.reason.Code, a.text)
	}
	return st.Err()
}

// event is the answer as an event of a Hold stream.
func (a *answer) event() *lockpb.Error {
	return &lockpb.Error{Code: int32(a.reason.Code), Message: a.text, Details: a.anys()} //nolint:gosec // codes are below 17
}

// rpc is the answer as google.rpc.Status.
func (a *answer) rpc() *spb.Status {
	return &spb.Status{Code: int32(a.reason.Code), Message: a.text, Details: a.anys()} //nolint:gosec // codes are below 17
}
