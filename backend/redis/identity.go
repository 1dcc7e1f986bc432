package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// identity is what a server says of itself to a new connection.
type identity struct {
	role, version, runID string
	// replID and offset are those of its replication: a server that lost its
	// data, or was promoted, has another id than before.
	replID string
	offset int64
	// appendOnly says that every write goes to a file.
	appendOnly bool
	// policy is its maxmemory-policy; empty if it does not say.
	policy string
	// readAt is just before it was asked, readTime the same for people.
	readAt   driver.Instant
	readTime time.Time
}

// introduce asks a new connection who the server is, and refuses one on which
// locks would not stand. What it fails with was not about a call: nothing was
// sent.
func (n *node) introduce(ctx context.Context, cn *redis.Conn) (*identity, error) {
	id, err := n.ask(ctx, cn)
	if err == nil {
		was := n.told.Swap(&id)
		n.report(was, &id)
		err = n.acceptable(&id)
	}
	if err == nil {
		err = n.agrees(ctx, cn)
	}
	var refused refusedError
	if errors.As(err, &refused) {
		if was := n.refused.Swap(&refused); was == nil || *was != refused {
			n.s.o.Logger.Warn("a server is not used", driver.LogBackend, "redis", driver.LogAddress, n.addr, driver.LogError, err)
		}
	} else if err == nil {
		n.refused.Store(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.addr, unsentError{err}) // the SDK takes off a layer
	}
	return &id, nil
}

func (n *node) ask(ctx context.Context, cn *redis.Conn) (id identity, err error) {
	id.readAt, id.readTime = n.s.o.Clock.Now(), time.Now()
	pipe := cn.Pipeline()
	var sections []*redis.StringCmd
	for _, section := range []string{"server", "replication", "persistence", "memory"} { // several at once only since 7.0
		sections = append(sections, pipe.Info(ctx, section))
	}
	_, _ = pipe.Exec(ctx) // each has its error
	info := make(map[string]string)
	for _, section := range sections {
		switch err := section.Err(); {
		case err == nil:
		case unknownCommand(err) && n.s.o.AllowEviction:
			continue // such a server is accepted as it is
		case redis.HasErrorPrefix(err, "NOPERM"), unknownCommand(err):
			return id, fmt.Errorf("%w: %w", errSilent, err)
		default:
			return id, err
		}
		for line := range strings.Lines(section.Val()) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				info[name] = value
			}
		}
	}
	id.role, id.runID, id.replID, id.policy = info["role"], info["run_id"], info["master_replid"], info["maxmemory_policy"]
	id.offset, _ = strconv.ParseInt(info["master_repl_offset"], 10, 64) // 0 if there is none
	id.appendOnly = info["aof_enabled"] == "1"
	if id.version = "Redis " + info["redis_version"]; info["valkey_version"] != "" {
		id.version = "Valkey " + info["valkey_version"]
	}
	return id, nil
}

func unknownCommand(err error) bool { return redis.HasErrorPrefix(err, "unknown command") }

// acceptable says why no lock may be on the server.
func (n *node) acceptable(id *identity) error {
	switch {
	case id.role == "slave":
		return errReplica
	case id.policy != "noeviction" && !n.s.o.AllowEviction:
		return evicting(id.policy)
	}
	return nil
}

// refusedError is why a server that answers is not used, in words without
// addresses.
type refusedError string

func (e refusedError) Error() string { return string(e) }

const (
	errReplica = refusedError("the server is a replica; locks are with its primary")
	errSilent  = refusedError("the server must say by INFO who it is")
)

// evicting is of a server that may drop leases.
func evicting(policy string) error {
	if policy == "" {
		policy = "unknown"
	}
	return refusedError("the server's maxmemory-policy is " + policy +
		": it would evict leases, and must be noeviction (allow_eviction=1 accepts it as it is)")
}

// report tells the operator whom a connection has met, when it is somebody else.
func (n *node) report(was, id *identity) {
	if was != nil && was.runID == id.runID && was.role == id.role && was.policy == id.policy {
		return
	}
	n.s.o.Logger.Info("connected to "+id.version, driver.LogBackend, "redis", driver.LogAddress, n.addr, driver.LogState, id.role)
	for _, warning := range id.warnings() { // Describe has them, too; a command line does not repeat them at each call
		n.s.o.Logger.Info(warning, driver.LogBackend, "redis", driver.LogAddress, n.addr)
	}
}

// warnings are what an operator should know of the server.
func (id *identity) warnings() (w []string) {
	if id.policy != "noeviction" {
		w = append(w, "the server may evict leases: its maxmemory-policy is not noeviction")
	}
	if !id.appendOnly {
		w = append(w, "the server has no append-only file: a restart loses the leases since its last snapshot, or all")
	}
	return w
}

// Describe tells of the servers that have locks what they last said to a new
// connection. It asks nothing.
func (s *Store) Describe() []driver.Server {
	all := s.topology.all()
	servers := make([]driver.Server, 0, len(all))
	for _, n := range all {
		d := driver.Server{Address: n.addr}
		if id := n.told.Load(); id != nil {
			d.Role, d.Version, d.RunID, d.EvictionPolicy, d.CheckedAt = id.role, id.version, id.runID, id.policy, id.readTime
			d.Persistence, d.Warnings = "snapshots or none", id.warnings()
			if id.appendOnly {
				d.Persistence = "append-only file"
			}
			if d.Role == "master" {
				d.Role = "primary"
			}
		}
		if refused := n.refused.Load(); refused != nil {
			d.Refused = string(*refused)
		}
		servers = append(servers, d)
	}
	return servers
}
