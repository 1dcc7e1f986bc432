package etcd_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A user with a password logs in by the first call, and again when the members do
// not know the login any more; a wrong password is an error that does not show it.
func TestAPasswordLogsIn(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	c, ctx := e.Client(t), t.Context()
	do := func(_ any, err error) {
		t.Helper()
		must(t, err)
	}
	do(c.RoleAdd(ctx, "root"))
	do(c.UserAdd(ctx, "root", "root"))
	do(c.UserGrantRole(ctx, "root", "root"))
	do(c.RoleAdd(ctx, "locks"))
	do(c.RoleGrantPermission(ctx, "locks", "locksidecar/", clientv3.GetPrefixRangeEnd("locksidecar/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	do(c.UserAdd(ctx, "sidecar", "hunter2"))
	do(c.UserGrantRole(ctx, "sidecar", "locks"))
	do(c.AuthEnable(ctx))

	dir := t.TempDir()
	right, wrong := filepath.Join(dir, "right"), filepath.Join(dir, "wrong")
	must(t, os.WriteFile(right, []byte("hunter2\n"), 0o600), os.WriteFile(wrong, []byte("hunter3\n"), 0o600))
	at := "etcd://sidecar@" + e.Members[0].Addr() + "?password_file="

	refused := openAt(t, at+wrong)
	if _, err := refused.Acquire(ctx, asked("a", "one")); !errors.Is(err, driver.ErrUnavailable) || strings.Contains(err.Error(), "hunter") {
		t.Errorf("with a wrong password: %v", err)
	}
	elsewhere := openAt(t, at+right, "prefix=other")
	if _, err := elsewhere.Acquire(ctx, asked("a", "one")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("below a prefix that is not the role's: %v", err)
	}
	d := openAt(t, at+right)
	for range 2 {
		r := asked("a", "one")
		l := granted(t, d, r)
		_, err := renewed(t, d, refOf(r, l), ttl)
		must(t, err)
		released(t, d, r, l)
		e.Members[0].Kill() // a new process has forgotten the logins
		must(t, e.Members[0].Revive())
	}
}
