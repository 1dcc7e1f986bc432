package socket_test

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Every call passes the one place, whatever the protocol, with the peer that the
// kernel names; what it says stays in the log.
func TestEveryCallIsAuthorized(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	s := start(t, socket.Options{Authorize: func(p socket.Peer, method string) error {
		mu.Lock()
		defer mu.Unlock()
		asked[method]++
		if int(p.PID) != os.Getpid() || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() {
			t.Errorf("%s is asked for %+v", method, p)
		}
		return errors.New("rule 7 of /etc/policy")
	}}, nil)
	c := dial(t, s.path)
	h := c.hold(t)
	_, holdErr := h.Recv()
	_, acquireErr := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"})
	_, listErr := c.admin.List(within(t), &lockpb.ListRequest{})
	for _, err := range []error{holdErr, acquireErr, listErr} {
		if status.Code(err) != codes.PermissionDenied || infoOf(t, err).GetReason() != "PERMISSION_DENIED" || strings.Contains(err.Error(), "policy") {
			t.Errorf("refused with %v", err)
		}
	}
	if _, err := healthpb.NewHealthClient(c.conn).Check(within(t), &healthpb.HealthCheckRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("health: %v", err)
	}
	web := httpClient(t, s.path)
	for _, r := range [][2]string{
		{"POST", "/locks/a:acquire"}, {"POST", "/locks/a:renew"}, {"POST", "/locks/a:release"}, {"POST", "/locks/a:hold"},
		{"POST", "/locks/a:force-release"}, {"GET", "/locks/a"}, {"GET", "/locks"}, {"GET", "/status"},
	} {
		if code, e, _ := call(t, web, r[0], r[1], ""); code != 403 || reasonIn(t, e) != "PERMISSION_DENIED" {
			t.Errorf("%s %s: %d %v", r[0], r[1], code, e)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for method, want := range map[string]int{
		lockpb.LockService_Hold_FullMethodName: 2, lockpb.LockService_Acquire_FullMethodName: 2, lockpb.AdminService_List_FullMethodName: 2,
		lockpb.LockService_Renew_FullMethodName: 1, lockpb.LockService_Release_FullMethodName: 1, lockpb.LockService_Get_FullMethodName: 1,
		lockpb.AdminService_ForceRelease_FullMethodName: 1, lockpb.AdminService_GetStatus_FullMethodName: 1,
	} {
		if asked[method] != want {
			t.Errorf("%s was asked for %d times, want %d", method, asked[method], want)
		}
	}
}
