package socket_test

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
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
