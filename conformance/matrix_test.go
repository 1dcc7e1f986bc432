package conformance_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// store is a line of the matrix: a store that each driver of it is certified on,
// directly, behind the breaker and through the socket of a sidecar.
type store struct {
	// name is that of the committed table.
	name  string
	start func(t *testing.T) started
	// slow: nothing runs beside it.
	slow bool
	// ways: behind the breaker and through a socket it runs whole, too.
	ways bool
	// part: it differs from a store before it by the edition or the number of its
	// servers, and runs in part directly, too.
	part    bool
	options conformance.Options
	// edition is that of a store which a machine may be without.
	edition testenv.Edition
}

// table is the committed list of what runs on the store.
func (s store) table() string { return strings.TrimSuffix(s.name, "-three") }

// started is a store that runs.
type started struct {
	harness func(decorate func(driver.Driver) driver.Driver) conformance.Harness
	// url is the sidecar's backend.
	url string
}

// patiently gives a call the time that a busy machine takes.
const patiently = "timeout=15s"

var stores = []store{
	{name: "embedded", ways: true, start: func(t *testing.T) started {
		return started{func(d func(driver.Driver) driver.Driver) conformance.Harness { return stored(t, "", d) }, "embedded:"}
	}},
	{name: "embedded-durable", ways: true, start: func(t *testing.T) started {
		return started{func(d func(driver.Driver) driver.Driver) conformance.Harness { return stored(t, file(t), d) }, "embedded://" + file(t)}
	}},
	{name: "redis", ways: true, start: func(t *testing.T) started { return redisOf(t, testenv.SystemRedis) }},
	{name: "redis-8", part: true, edition: testenv.Redis8, start: func(t *testing.T) started { return redisOf(t, testenv.Redis8) }},
	{name: "valkey-8", part: true, edition: testenv.Valkey8, start: func(t *testing.T) started { return redisOf(t, testenv.Valkey8) }},
	{name: "redis-sentinel", start: func(t *testing.T) started {
		env := testenv.StartSentinel(t, testenv.RedisOptions{DownAfter: time.Minute})
		o := redis.Options{Sentinel: &redis.Sentinel{Addrs: env.Addrs(), Primary: testenv.SentinelName}}
		primary := env.Primary(t)
		return started{decorated(onServers(o, func() []*testenv.Redis { return []*testenv.Redis{primary} })), env.URL(patiently)}
	}},
	{name: "redis-cluster", start: func(t *testing.T) started {
		env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
		return started{decorated(onServers(redis.Options{Cluster: env.Addrs()}, func() []*testenv.Redis { return env.Nodes })), env.URL(patiently)}
	}},
	{name: "etcd", slow: true, start: func(t *testing.T) started { return etcdOf(t, 1) }},
	{name: "etcd-three", slow: true, part: true, start: func(t *testing.T) started { return etcdOf(t, 3) }},
	{name: "dynamodb", slow: true, options: few, start: func(t *testing.T) started {
		e := testenv.StartDynamoT(t)
		return started{decorated(onTable(t, e, "locks")), e.URL("locks", "timeout=20s", "poll=8s")}
	}},
}

// decorated has each driver of a harness decorated.
func decorated(h conformance.Harness) func(func(driver.Driver) driver.Driver) conformance.Harness {
	return func(decorate func(driver.Driver) driver.Driver) conformance.Harness {
		h := h
		open := h.Open
		h.Open = func(ctx context.Context) (driver.Driver, error) {
			d, err := open(ctx)
			if err != nil {
				return nil, err
			}
			return decorate(d), nil
		}
		if link := h.Link; link != nil {
			h.Link = func(ctx context.Context) (*conformance.Link, error) {
				l, err := link(ctx)
				if err == nil {
					l.Driver = decorate(l.Driver)
				}
				return l, err
			}
		}
		return h
	}
}

func redisOf(t *testing.T, e testenv.Edition) started {
	r := testenv.StartRedisWith(t, testenv.RedisOptions{Edition: e})
	return started{decorated(onServer(t, redis.Options{}, r)), r.URL(patiently)}
}

func etcdOf(t *testing.T, members int) started {
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: members})
	return started{decorated(onEtcd(t, e, etcd.Options{})), e.URL() + "?" + patiently}
}

func TestMatrix(t *testing.T) {
	for _, s := range stores {
		if missing := s.edition.Missing(); s.edition.Optional() && missing != nil {
			t.Run(s.name+" (not available here)", func(t *testing.T) { t.Log(missing) })
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			if !s.slow {
				t.Parallel()
			}
			run := s.start(t)
			t.Run("directly", func(t *testing.T) {
				certified(t, row{name: s.name, table: s.table(), whole: !s.part, options: s.options}, run.harness(bare))
			})
			t.Run("breaker", func(t *testing.T) {
				certified(t, row{name: s.name + "-breaker", table: s.table(), whole: s.ways, options: s.options}, run.harness(behindBreaker))
			})
			t.Run("socket", func(t *testing.T) {
				h := through(t, testenv.Daemon(t, "serve", "--backend", run.url))
				h.Slow = s.name == "dynamodb"
				certified(t, row{name: s.name + "-socket", table: "endpoint", whole: s.ways, options: s.options}, h)
			})
		})
	}
}
