package socket

import (
	"net/http"
	"net/url"
	"strings"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// endpoint is what a path of the API means.
type endpoint struct {
	// method is the full one of gRPC; empty for healthz.
	method string
	// lockID is of the path; perLock says that the path has one.
	lockID  string
	perLock bool
}

// verbs are the ends of the paths that are posted to.
var verbs = map[string]string{
	"acquire":       lockpb.LockService_Acquire_FullMethodName,
	"renew":         lockpb.LockService_Renew_FullMethodName,
	"release":       lockpb.LockService_Release_FullMethodName,
	"hold":          lockpb.LockService_Hold_FullMethodName,
	"force-release": lockpb.AdminService_ForceRelease_FullMethodName,
	"cancel-waiter": lockpb.AdminService_CancelWaiter_FullMethodName,
	"reprioritize":  lockpb.AdminService_Reprioritize_FullMethodName,
	"drain":         lockpb.AdminService_Drain_FullMethodName,
}

// route finds what a request is for. The escaped path is decoded once and split
// at its last colon; it is never cleaned, so that what a client wrote is the
// lock that it gets, or an error.
func route(httpMethod, escapedPath string) (endpoint, error) {
	path, err := url.PathUnescape(escapedPath)
	if err != nil {
		return endpoint{}, errNoPath
	}
	get := func(e endpoint) (endpoint, error) {
		if httpMethod != http.MethodGet {
			return endpoint{}, errVerb
		}
		return e, nil
	}
	switch path {
	case "/healthz":
		return get(endpoint{})
	case "/status":
		return get(endpoint{method: lockpb.AdminService_GetStatus_FullMethodName})
	case "/events":
		return get(endpoint{method: lockpb.AdminService_Watch_FullMethodName})
	case "/locks":
		return get(endpoint{method: lockpb.AdminService_List_FullMethodName})
	}
	id, ok := strings.CutPrefix(path, "/locks/")
	if !ok {
		return endpoint{}, errNoPath
	}
	switch httpMethod {
	case http.MethodGet:
		return endpoint{method: lockpb.LockService_Get_FullMethodName, lockID: id, perLock: true}, nil
	case http.MethodPost:
		colon := strings.LastIndexByte(id, ':')
		if colon < 0 {
			return endpoint{}, errNoPath
		}
		method, ok := verbs[id[colon+1:]]
		if !ok {
			return endpoint{}, errNoPath
		}
		return endpoint{method: method, lockID: id[:colon], perLock: true}, nil
	}
	return endpoint{}, errVerb
}
