package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Etcd is an etcd of one member or of more, on free ports of loopback.
type Etcd struct {
	// Members are its servers; Kill, Pause, Resume and Restart are theirs.
	Members []*EtcdMember
	// KeepName lets RestartFrom and RestartEmpty keep the token by which the
	// members of one cluster know each other, as an operator does who repeats the
	// command line of before: the cluster is then the same by its id.
	KeepName bool
	o        EtcdOptions
	dir      string
	users    bool   // nobody else may do anything
	token    string // what the members of one cluster know each other by
}

// EtcdMember is a server of an etcd.
type EtcdMember struct {
	*Process
	e            *Etcd
	name         string
	client, peer int // its ports
}

// StartEtcd starts an etcd for the length of a test and waits until it answers,
// its users included.
func StartEtcd(t testing.TB, o EtcdOptions) *Etcd {
	t.Helper()
	var err error
	for range 5 { // a port may be taken between the look and the bind
		var e *Etcd
		if e, err = startEtcd(t.Context(), o); err == nil {
			t.Cleanup(func() {
				if err := e.Stop(); err != nil {
					t.Error(err)
				}
			})
			e.addUsers(t)
			return e
		}
	}
	t.Fatal(err)
	return nil
}

func startEtcd(ctx context.Context, o EtcdOptions) (*Etcd, error) {
	dir, err := os.MkdirTemp("", "lsetcd")
	if err != nil {
		return nil, err
	}
	e := &Etcd{o: o, dir: dir, token: dir}
	for i := range max(o.Members, 1) {
		m := &EtcdMember{e: e, name: "m" + strconv.Itoa(i)}
		if m.client, m.peer, err = freePorts(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
		e.Members = append(e.Members, m)
	}
	if err := e.start(ctx); err != nil {
		return nil, errors.Join(err, e.Stop())
	}
	return e, nil
}

// start starts every member and waits until each answers.
func (e *Etcd) start(ctx context.Context) error {
	for _, m := range e.Members {
		if err := m.run(); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		if err := m.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (m *EtcdMember) run() (err error) {
	cmd, err := m.command()
	if err != nil {
		return err
	}
	m.Process, err = run(cmd)
	return err
}

// ready waits until the member has found its place in the cluster: it answers a
// read that needs a leader.
func (m *EtcdMember) ready(ctx context.Context) error {
	c, err := m.e.dial(m.Addr())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, time.Second)
		_, err := c.Get(once, "ready", clientv3.WithCountOnly())
		done()
		if err == nil {
			return nil
		}
		select {
		case <-m.ended:
			return fmt.Errorf("etcd ended: %w; it printed:\n%s", m.err, m.Output())
		case <-ctx.Done():
			return fmt.Errorf("etcd does not answer: %w; it printed:\n%s", err, m.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Addr is host:port for clients.
func (m *EtcdMember) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.client)) }

// Restart kills the member if it runs and starts it again on its ports, with its
// data, and waits until it answers: there must be a majority with it.
func (m *EtcdMember) Restart(ctx context.Context) error {
	if err := m.Revive(); err != nil {
		return err
	}
	return m.ready(ctx)
}

// Revive is Restart without waiting: two members of three that were killed
// answer only once both are back.
func (m *EtcdMember) Revive() error {
	m.Kill()
	return m.run()
}

// Addrs are the addresses of the members.
func (e *Etcd) Addrs() (addrs []string) {
	for _, m := range e.Members {
		addrs = append(addrs, m.Addr())
	}
	return addrs
}

// URL is the backend URL, with what TLS asks of a client: etcd://h1,h2,h3. It
// names no user: a test of Users names its own.
func (e *Etcd) URL() string {
	u := "etcd://" + strings.Join(e.Addrs(), ",")
	if t := e.o.TLS; t != nil {
		q := url.Values{"ca_file": {t.Authority.CertFile}}
		if t.Client != (Certificate{}) {
			q.Set("cert_file", t.Client.CertFile)
			q.Set("key_file", t.Client.KeyFile)
		}
		u += "?" + q.Encode()
	}
	return u
}

// Client is a client of all members for the test's own commands: it may do
// everything. It is closed when the test ends.
func (e *Etcd) Client(t testing.TB) *clientv3.Client {
	t.Helper()
	c, err := e.dial(e.Addrs()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Leader is the member that leads, by the word of a member that has a leader; it
// waits for one.
func (e *Etcd) Leader(t testing.TB) *EtcdMember {
	t.Helper()
	var leader *EtcdMember
	wait(t, "no member knows a leader that runs", func(ctx context.Context) (err error) {
		leader, err = e.leader(ctx)
		return err
	})
	return leader
}

func (e *Etcd) leader(ctx context.Context) (*EtcdMember, error) {
	var errs []error
	ids := make(map[uint64]*EtcdMember)
	named, term := uint64(0), uint64(0)
	for _, m := range e.Members {
		once, done := context.WithTimeout(ctx, 500*time.Millisecond)
		c, err := e.dial(m.Addr())
		if err != nil {
			done()
			return nil, err
		}
		status, err := c.Status(once, m.Addr())
		done()
		_ = c.Close()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ids[status.Header.MemberId] = m
		if status.RaftTerm > term {
			named, term = status.Leader, status.RaftTerm
		}
	}
	if m := ids[named]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("the leader is %x: %w", named, errors.Join(errs...))
}

// Followers are the members but the leader, alive or not.
func (e *Etcd) Followers(t testing.TB) (followers []*EtcdMember) {
	t.Helper()
	leader := e.Leader(t)
	for _, m := range e.Members {
		if m != leader {
			followers = append(followers, m)
		}
	}
	return followers
}

// Stop ends every member and removes their data.
func (e *Etcd) Stop() error {
	errs := make([]error, len(e.Members))
	var wg sync.WaitGroup
	for i, m := range e.Members {
		if m.Process != nil {
			wg.Go(func() { errs[i] = m.Process.Stop() })
		}
	}
	wg.Wait()
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}
