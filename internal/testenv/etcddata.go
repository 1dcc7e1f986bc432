package testenv

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// EtcdSnapshot is a copy of an etcd's data at one moment.
type EtcdSnapshot struct{ file string }

// Snapshot copies the data as they are now, as etcdctl snapshot save does. The
// copy lives as long as the test.
func (e *Etcd) Snapshot(t testing.TB) EtcdSnapshot {
	t.Helper()
	c, err := e.dial(e.Leader(t).Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	// A read that needs a majority: the leader has what was acknowledged.
	if _, err := c.Get(t.Context(), "ready"); err != nil {
		t.Fatal(err)
	}
	from, err := c.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = from.Close() }()
	s := EtcdSnapshot{file: filepath.Join(t.TempDir(), "snapshot.db")}
	to, err := os.Create(s.file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return s
}

// RestartFrom kills the members and starts them again on their ports with the
// data of a snapshot, as etcdutl snapshot restore does, with its further
// arguments: what was written since is gone, and the revision falls unless
// --bump-revision lifts it. What answers then is another cluster, by its
// id, unless KeepName is set.
func (e *Etcd) RestartFrom(ctx context.Context, s EtcdSnapshot, args ...string) error {
	tool, err := etcdTool("etcdutl")
	if err != nil {
		return err
	}
	for _, m := range e.Members {
		m.Kill()
	}
	e.rename()
	for _, m := range e.Members {
		if err := os.RemoveAll(m.DataDir()); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, tool, append([]string{
			"snapshot", "restore", s.file, "--data-dir", m.DataDir(), "--name", m.name,
			"--initial-cluster", e.initialCluster(), "--initial-cluster-token", e.token, "--initial-advertise-peer-urls", m.peerURL(),
		}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s snapshot restore: %w\n%s", tool, err, out)
		}
	}
	return e.start(ctx)
}

// RestartEmpty kills the members, removes their data and starts them again on
// their ports: another cluster, without users.
func (e *Etcd) RestartEmpty(ctx context.Context) error {
	for _, m := range e.Members {
		m.Kill()
		if err := os.RemoveAll(m.DataDir()); err != nil {
			return err
		}
	}
	e.rename()
	e.users = false
	return e.start(ctx)
}

func (e *Etcd) rename() {
	if !e.KeepName {
		e.token += "+"
	}
}

// Restart kills every member and starts them all with their data.
func (e *Etcd) Restart(ctx context.Context) error {
	for _, m := range e.Members {
		m.Kill()
	}
	return e.start(ctx)
}

// Pause stops every member by SIGSTOP; Resume lets them go on.
func (e *Etcd) Pause() error { return e.each((*Process).Pause) }

// Resume lets paused members go on.
func (e *Etcd) Resume() error { return e.each((*Process).Resume) }

func (e *Etcd) each(do func(*Process) error) error {
	for _, m := range e.Members {
		if err := do(m.Process); err != nil {
			return err
		}
	}
	return nil
}

// Compact forgets every revision but the present one, which it returns, and
// waits until that is done on the member that answered: a watch that starts
// before it is refused.
func (e *Etcd) Compact(t testing.TB) int64 {
	t.Helper()
	c := e.Client(t)
	r, err := c.Get(t.Context(), "ready")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context(), r.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

// Keys are the keys with a prefix, in order.
func (e *Etcd) Keys(t testing.TB, prefix string) (keys []string) {
	t.Helper()
	r, err := e.Client(t).Get(t.Context(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// Leases are the ids of all leases that the etcd has.
func (e *Etcd) Leases(t testing.TB) (ids []clientv3.LeaseID) {
	t.Helper()
	r, err := e.Client(t).Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Leases {
		ids = append(ids, l.ID)
	}
	return ids
}
