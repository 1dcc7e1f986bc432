package socket_test

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Every call passes the one place, whatever the protocol, with the peer that the
// kernel names; what it says stays in the log.
func TestEveryCallIsAuthorized(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	s := start(t, socket.Options{Authorize: func(c socket.Call) error {
		mu.Lock()
		defer mu.Unlock()
		asked[c.Method]++
		groups, err := os.Getgroups()
		if p := c.Peer; int(p.PID) != os.Getpid() || int(p.UID) != os.Getuid() || int(p.GID) != os.Getgid() ||
			err != nil || len(p.Groups) != len(groups) || filepath.Base(p.Socket) != "api.sock" {
			t.Errorf("%s is asked for %+v", c.Method, p)
		}
		for i, g := range groups {
			if c.Peer.Groups[i] != uint32(g) {
				t.Errorf("the groups are %v, want %v", c.Peer.Groups, groups)
			}
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
		{"POST", "/locks/a:force-release"}, {"POST", "/locks/a:cancel-waiter"}, {"POST", "/locks/a:reprioritize"}, {"POST", "/locks/a:drain"}, {"GET", "/locks/a"}, {"GET", "/locks"}, {"GET", "/status"},
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
		lockpb.AdminService_CancelWaiter_FullMethodName: 1, lockpb.AdminService_Reprioritize_FullMethodName: 1,
		lockpb.AdminService_Drain_FullMethodName:        1,
		lockpb.AdminService_ForceRelease_FullMethodName: 1, lockpb.AdminService_GetStatus_FullMethodName: 1,
	} {
		if asked[method] != want {
			t.Errorf("%s was asked for %d times, want %d", method, asked[method], want)
		}
	}
}

// allowed is a policy by verb and the first segment of the lock id.
func allowed(grants map[string]string) func(socket.Call) error {
	return func(c socket.Call) error {
		first, _, _ := strings.Cut(c.LockID, "/")
		if c.Verb == socket.VerbConnect || c.LockID == "" || strings.Contains(grants[first], string(c.Verb)) {
			return nil
		}
		return errors.New("not granted")
	}
}

// Each lock is asked for under the verb of the call, over both protocols, and on
// a Hold stream for every acquire. Whoever has a lease's secret may end it or go
// on with it whatever the policy says now.
func TestEveryLockIsAuthorized(t *testing.T) {
	grants := map[string]string{"mine": "acquire inspect", "theirs": "", "seen": "inspect", "op": "inspect force"}
	s := start(t, socket.Options{Authorize: allowed(grants)}, nil)
	c := dial(t, s.path)
	web := httpClient(t, s.path)
	denied := func(what string, err error, want bool) {
		t.Helper()
		if got := status.Code(err) == codes.PermissionDenied; got != want || !want && err != nil && status.Code(err) != codes.Aborted {
			t.Errorf("%s: %v, want denied %t", what, err, want)
		}
	}
	deniedHTTP := func(method, path, body string, want bool) {
		t.Helper()
		code, e, _ := call(t, web, method, path, body)
		if (code == 403) != want || !want && code != 200 && code != 409 {
			t.Errorf("%s %s: %d %v, want denied %t", method, path, code, e, want)
		}
	}
	h := c.hold(t)
	for lock, may := range grants {
		_, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: lock + "/a", Wait: seconds(0)})
		denied("acquire "+lock, err, !strings.Contains(may, "acquire"))
		_, err = c.Get(within(t), &lockpb.GetRequest{LockId: lock + "/a"})
		denied("get "+lock, err, !strings.Contains(may, "inspect"))
		_, err = c.admin.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: lock + "/a", FencingToken: 1, Reason: "test"})
		denied("force "+lock, err, !strings.Contains(may, "force"))
		_, err = c.admin.CancelWaiter(within(t), &lockpb.CancelWaiterRequest{LockId: lock + "/a", Ticket: 1, Reason: "test"})
		denied("cancel "+lock, err, !strings.Contains(may, "force"))
		denied("drain "+lock, drained(t, c, &lockpb.DrainRequest{LockId: lock + "/free", MaxHold: millisecond(), Reason: "test"}), !strings.Contains(may, "force"))
		_, err = c.admin.Reprioritize(within(t), &lockpb.ReprioritizeRequest{LockId: lock + "/a", Ticket: 1, Reason: "test"})
		denied("reprioritize "+lock, err, !strings.Contains(may, "force"))
		h.acquire(&lockpb.AcquireRequest{LockId: lock + "/h", Wait: seconds(0)})
		r := h.next()
		denied("hold "+lock, status.FromProto(statusOf(r.GetError())).Err(), !strings.Contains(may, "acquire"))

		deniedHTTP("POST", "/locks/"+lock+"/w:acquire", `{"wait":"0s"}`, !strings.Contains(may, "acquire"))
		deniedHTTP("GET", "/locks/"+lock+"/w", "", !strings.Contains(may, "inspect"))
		deniedHTTP("POST", "/locks/"+lock+"/w:force-release", `{"fencing_token":"1","reason":"test"}`, !strings.Contains(may, "force"))
		deniedHTTP("POST", "/locks/"+lock+"/w:cancel-waiter", `{"ticket":"1","reason":"test"}`, !strings.Contains(may, "force"))
		deniedHTTP("POST", "/locks/"+lock+"/w:reprioritize", `{"ticket":"1","priority":3,"reason":"test"}`, !strings.Contains(may, "force"))
		if !strings.Contains(may, "acquire") {
			deniedHTTP("POST", "/locks/"+lock+"/w:hold", `{"wait":"0s"}`, true)
		}
	}
	// A lease of before the policy.
	l, err := s.store.Acquire(within(t), &backend.AcquireRequest{LockID: "theirs/old"})
	if err != nil {
		t.Fatal(err)
	}
	proof := `{"lease_id":"` + l.LeaseID + `","fencing_token":"` + strconv.FormatInt(l.Token, 10) + `"}`
	deniedHTTP("POST", "/locks/theirs/old:renew", proof, false)
	err = h.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
		LockId: l.LockID, LeaseId: l.LeaseID, FencingToken: l.Token, RequestId: "adopt",
	}}})
	if err != nil || h.next().GetGranted() == nil {
		t.Errorf("adopt: %v", err)
	}
	if _, err := c.Release(within(t), &lockpb.ReleaseRequest{LockId: l.LockID, LeaseId: l.LeaseID, FencingToken: l.Token}); err != nil {
		t.Errorf("release: %v", err)
	}
}

// A list shows what may be inspected, whole over its pages, and its page tokens
// name no other lock.
func TestListShowsWhatMayBeInspected(t *testing.T) {
	s := start(t, socket.Options{Authorize: allowed(map[string]string{"mine": "inspect"})}, nil)
	want := map[string]bool{}
	for i := range 60 {
		id := "secret/" + strconv.Itoa(i)
		if i%20 == 7 {
			id = "mine/" + strconv.Itoa(i)
			want[id] = true
		}
		if _, err := s.store.Acquire(within(t), &backend.AcquireRequest{LockID: id}); err != nil {
			t.Fatal(err)
		}
	}
	c := dial(t, s.path)
	req, pages := &lockpb.ListRequest{PageSize: 7}, 0
	for ; ; pages++ {
		page, err := c.admin.List(within(t), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.GetLocks() {
			if !want[l.GetLockId()] {
				t.Errorf("%s is listed, or twice", l.GetLockId())
			}
			delete(want, l.GetLockId())
		}
		req.PageToken = page.GetNextPageToken()
		raw, err := base64.RawURLEncoding.DecodeString(req.PageToken)
		if err != nil || strings.Contains(string(raw), "secret") {
			t.Errorf("the page token is %q, %v", raw, err)
		}
		if req.PageToken == "" {
			break
		}
	}
	if len(want) != 0 || pages < 8 {
		t.Errorf("%v are not listed on %d pages", want, pages)
	}
	for _, token := range []string{"v1:secret/1", "AAAA", "~"} {
		_, err := c.admin.List(within(t), &lockpb.ListRequest{PageToken: token})
		if infoOf(t, err).GetReason() != "INVALID_PAGE_TOKEN" {
			t.Errorf("page token %q: %v", token, err)
		}
	}
}

// Every method of the API has a verb: what has none is refused.
func TestEveryMethodHasAVerb(t *testing.T) {
	services := lockpb.File_locksidecar_v1_lock_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			name := "/" + string(services.Get(i).FullName()) + "/" + string(methods.Get(j).Name())
			if socket.VerbOf(name) == "" {
				t.Errorf("%s has no verb", name)
			}
		}
	}
}
