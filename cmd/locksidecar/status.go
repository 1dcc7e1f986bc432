package main

import (
	spb "google.golang.org/genproto/googleapis/rpc/status"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// statusOf is the API's Error as the google.rpc.Status that it equals.
func statusOf(e *lockpb.Error) *spb.Status {
	return &spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}
}
