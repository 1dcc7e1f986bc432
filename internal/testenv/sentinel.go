package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"
)

// SentinelName is the name by which Sentinels know the primary.
const SentinelName = "locks"

// Sentinel is a primary with two replicas, watched by three Sentinels of which
// two make a quorum. A primary that does not answer for a second is down.
type Sentinel struct {
	// Nodes are the servers, of whatever role.
	Nodes []*Redis
	// Sentinels are the watchers; Client and Must speak to them too.
	Sentinels []*Redis
	password  string
}

// StartSentinel starts them for the length of a test and waits for the quorum.
// Of the options, Edition, Args, AppendFsync, Save, Password and DownAfter count.
func StartSentinel(t testing.TB, o RedisOptions) *Sentinel {
	t.Helper()
	if o.TLS != nil || o.Users != "" || o.Config != "" {
		t.Fatal("testenv: a Sentinel has no TLS, Users or Config")
	}
	// A file, so that what the Sentinels make of a node outlives it.
	o.Config = "save \"\"\n"
	s := &Sentinel{password: o.Password}
	for range 3 {
		s.Nodes = append(s.Nodes, StartRedisWith(t, o))
	}
	for _, r := range s.Nodes[1:] {
		r.ReplicaOf(t, s.Nodes[0])
		r.Must(t, "CONFIG", "REWRITE")
	}
	conf := fmt.Sprintf("sentinel monitor %[1]s 127.0.0.1 %[2]d 2\nsentinel down-after-milliseconds %[1]s %[3]d\n"+
		"sentinel failover-timeout %[1]s 5000\nsentinel parallel-syncs %[1]s 2\n", SentinelName, s.Nodes[0].port, cmp.Or(o.DownAfter, time.Second).Milliseconds())
	if o.Password != "" {
		conf += fmt.Sprintf("sentinel auth-pass %s %s\n", SentinelName, o.Password)
	}
	for range 3 {
		s.Sentinels = append(s.Sentinels, StartRedisWith(t, RedisOptions{Edition: o.Edition, sentinel: conf}))
	}
	s.waitQuorum(t)
	return s
}

// Addrs are the addresses of the Sentinels.
func (s *Sentinel) Addrs() (addrs []string) {
	for _, r := range s.Sentinels {
		addrs = append(addrs, r.Addr())
	}
	return addrs
}

// URL is the backend URL, redis+sentinel://s1,s2,s3/name, of a store that is new,
// with further parameters: see [Redis.URL].
func (s *Sentinel) URL(parameters ...string) string {
	u := "redis+sentinel://"
	if s.password != "" {
		u += url.UserPassword("", s.password).String() + "@"
	}
	return u + strings.Join(s.Addrs(), ",") + "/" + SentinelName + asNew(parameters)
}

// Primary is the node that every Sentinel names as the primary; it waits until
// they agree.
func (s *Sentinel) Primary(t testing.TB) *Redis {
	t.Helper()
	var primary *Redis
	wait(t, "the Sentinels do not agree on a primary", func(ctx context.Context) (err error) {
		primary, err = s.named(ctx)
		return err
	})
	return primary
}

// Replicas are the nodes but the primary, alive or not.
func (s *Sentinel) Replicas(t testing.TB) (replicas []*Redis) {
	t.Helper()
	primary := s.Primary(t)
	for _, r := range s.Nodes {
		if r != primary {
			replicas = append(replicas, r)
		}
	}
	return replicas
}

// KillPrimary ends the primary by SIGKILL; Restart brings it back.
func (s *Sentinel) KillPrimary(t testing.TB) *Redis {
	t.Helper()
	r := s.Primary(t)
	r.Kill()
	return r
}

// PausePrimary stops the primary by SIGSTOP. Resume lets it go on: it takes
// itself for the primary, and accepts writes, until the Sentinels have told it
// better, which takes them seconds.
func (s *Sentinel) PausePrimary(t testing.TB) *Redis {
	t.Helper()
	r := s.Primary(t)
	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	return r
}

// WaitForFailover waits until the Sentinels agree on another primary than the
// given one and it takes itself for one.
func (s *Sentinel) WaitForFailover(t testing.TB, from *Redis) *Redis {
	t.Helper()
	var primary *Redis
	wait(t, "there is no failover from "+from.Addr(), func(ctx context.Context) (err error) {
		if primary, err = s.named(ctx); err != nil {
			return err
		}
		if primary == from {
			return errors.New("the primary is the same")
		}
		i, err := primary.Info(ctx, "replication")
		if err == nil && i["role"] != "master" {
			err = fmt.Errorf("%s says it is a %s", primary.Addr(), i["role"])
		}
		return err
	})
	return primary
}

// StopReplication makes the primary refuse its replicas: they keep what they
// have, answer the Sentinels and can be promoted, and what is written from now
// on is lost by a failover. Sentinels promote no replica that has been cut off
// for more than about ten seconds: the failover must start before. It is about
// this primary alone, its successor has replicas again.
func (s *Sentinel) StopReplication(t testing.TB) {
	t.Helper()
	r := s.Primary(t)
	r.Must(t, "ACL", "SETUSER", "default", "-psync", "-sync")
	r.Must(t, "CLIENT", "KILL", "TYPE", "replica")
	wait(t, r.Addr()+" still has replicas", func(ctx context.Context) error {
		i, err := r.Info(ctx, "replication")
		if err == nil && i["connected_slaves"] != "0" {
			err = fmt.Errorf("%v", i)
		}
		return err
	})
}

// StartReplication ends what StopReplication began, if the primary is the same.
func (s *Sentinel) StartReplication(t testing.TB) {
	t.Helper()
	r := s.Primary(t)
	r.Must(t, "ACL", "SETUSER", "default", "+psync", "+sync")
	for _, replica := range s.Replicas(t) {
		replica.WaitLinked(t)
	}
}

// named is the node that all Sentinels name.
func (s *Sentinel) named(ctx context.Context) (*Redis, error) {
	addr := ""
	for i, r := range s.Sentinels {
		c := r.Client()
		reply, err := c.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SentinelName).StringSlice()
		_ = c.Close()
		if err != nil {
			return nil, err
		}
		if len(reply) != 2 {
			return nil, fmt.Errorf("the Sentinel %s says %v", r.Addr(), reply)
		}
		named := net.JoinHostPort(reply[0], reply[1])
		if i > 0 && named != addr {
			return nil, fmt.Errorf("the Sentinels name %s and %s", addr, named)
		}
		addr = named
	}
	for _, r := range s.Nodes {
		if r.Addr() == addr {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the Sentinels name %s, which is none of the nodes", addr)
}

// waitQuorum waits until each Sentinel knows the others and the replicas.
func (s *Sentinel) waitQuorum(t testing.TB) {
	t.Helper()
	for _, r := range s.Sentinels {
		wait(t, "the Sentinel "+r.Addr()+" has no quorum", func(ctx context.Context) error {
			c := r.Client()
			defer func() { _ = c.Close() }()
			if err := c.Do(ctx, "SENTINEL", "CKQUORUM", SentinelName).Err(); err != nil {
				return err
			}
			pairs, err := c.Do(ctx, "SENTINEL", "MASTER", SentinelName).StringSlice()
			if err != nil {
				return err
			}
			m := make(map[string]string)
			for k := 0; k+1 < len(pairs); k += 2 {
				m[pairs[k]] = pairs[k+1]
			}
			if m["flags"] != "master" || m["num-slaves"] != "2" || m["num-other-sentinels"] != "2" {
				return fmt.Errorf("%v", m)
			}
			return nil
		})
	}
}
