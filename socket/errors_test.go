package socket_test

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// infoOf is the ErrorInfo of a call's error, which stands first.
func infoOf(t testing.TB, err error) *errdetails.ErrorInfo {
	t.Helper()
	details := status.Convert(err).Details()
	if len(details) == 0 {
		t.Errorf("the error %v has no details", err)
		return nil
	}
	info, ok := details[0].(*errdetails.ErrorInfo)
	if !ok || info.GetDomain() != "locksidecar.dev" {
		t.Errorf("the first detail of %v is %v", err, details[0])
	}
	return info
}

// statusOf is a Hold stream's error as google.rpc.Status, which it equals field
// for field.
func statusOf(e *lockpb.Error) *spb.Status {
	return &spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}
}
