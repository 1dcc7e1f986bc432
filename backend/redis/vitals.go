package redis

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Measure asks every server that has locks for its memory and its replicas. A
// server without maxmemory is measured by its machine's memory, if it knows that.
func (s *Store) Measure(ctx context.Context) (driver.Vitals, error) {
	if err := s.check(ctx); err != nil {
		return driver.Vitals{}, err
	}
	type answer struct {
		v   driver.Vitals
		err error
	}
	all := s.topology.all()
	answers := make(chan answer, len(all))
	for _, n := range all {
		go func() { // the client's timeouts bound it
			v, err := n.measure(ctx)
			answers <- answer{v, err}
		}()
	}
	var whole driver.Vitals
	var failed error
	for range all {
		a := <-answers
		if a.err != nil {
			failed = a.err
			continue
		}
		whole.Replicates = whole.Replicates || a.v.Replicates
		whole.Replicas += a.v.Replicas
		whole.ReplicationLag = max(whole.ReplicationLag, a.v.ReplicationLag)
		whole.MemoryUsed = max(whole.MemoryUsed, a.v.MemoryUsed)
	}
	if failed != nil { // what only some have said is not the store's condition
		return driver.Vitals{}, s.outcome(failed)
	}
	return whole, nil
}

func (n *node) measure(ctx context.Context) (driver.Vitals, error) {
	pipe := n.client.Pipeline()
	replication, memory := pipe.Info(ctx, "replication"), pipe.Info(ctx, "memory")
	if _, err := pipe.Exec(ctx); err != nil {
		if unknownCommand(err) || redis.HasErrorPrefix(err, "NOPERM") {
			return driver.Vitals{}, nil // it does not tell
		}
		return driver.Vitals{}, err
	}
	return vitals(replication.Val() + memory.Val()), nil
}

// vitals reads what INFO says of replication and memory.
func vitals(info string) (v driver.Vitals) {
	var used, most, machine float64
	for line := range strings.Lines(info) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		switch {
		case !ok:
		case name == "role":
			v.Replicates = true
		case name == "used_memory":
			used, _ = strconv.ParseFloat(value, 64) // 0: it does not tell
		case name == "maxmemory":
			most, _ = strconv.ParseFloat(value, 64)
		case name == "total_system_memory":
			machine, _ = strconv.ParseFloat(value, 64)
		case isReplica(name):
			if lag, online := replicaLag(value); online {
				v.Replicas++
				v.ReplicationLag = max(v.ReplicationLag, lag)
			}
		}
	}
	if most == 0 {
		most = machine
	}
	if most > 0 {
		v.MemoryUsed = used / most
	}
	return v
}

// isReplica tells slave0 from slave_read_only.
func isReplica(name string) bool {
	number, ok := strings.CutPrefix(name, "slave")
	_, err := strconv.ParseUint(number, 10, 32)
	return ok && err == nil
}

// replicaLag reads ip=127.0.0.1,port=7000,state=online,offset=14,lag=1. One that
// is not online yet follows nobody.
func replicaLag(value string) (lag time.Duration, online bool) {
	for field := range strings.SplitSeq(value, ",") {
		switch name, text, _ := strings.Cut(field, "="); name {
		case "state":
			online = text == "online"
		case "lag":
			seconds, _ := strconv.ParseInt(text, 10, 32) // 0: it does not tell
			lag = time.Duration(seconds) * time.Second
		}
	}
	return lag, online
}
