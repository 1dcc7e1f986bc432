package etcd

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// lookEvery is how often the members are asked who they are, at most.
const lookEvery = time.Minute

// members is what the members said of themselves last.
type members struct {
	mu   sync.Mutex
	told map[string]driver.Server
	// used is the share of its quota that each has used, if it says so.
	used    map[string]float64
	next    driver.Instant
	looking bool
}

// look asks every member who it is, beside the caller, unless that was done a short
// time ago.
func (m *members) look(s *Store) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := s.o.Clock.Now()
	if m.looking || now < m.next {
		return
	}
	m.looking = s.start(func() { m.ask(s) })
}

func (m *members) ask(s *Store) {
	told, used := make(map[string]driver.Server), make(map[string]float64)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.looking, m.next = false, s.o.Clock.Now().Add(lookEvery)
		for address, server := range told {
			m.report(s, m.told[address], server)
			if m.told == nil {
				m.told = make(map[string]driver.Server)
			}
			m.told[address] = server
		}
		m.used = used
	}()
	c, err := s.connected()
	if err != nil {
		return
	}
	for _, address := range c.Endpoints() {
		ctx, cancel := context.WithTimeout(s.stopped, s.o.Timeout)
		asked := time.Now()
		status, err := c.Maintenance.Status(ctx, address)
		cancel()
		if err != nil {
			continue // what it said before stands, with its time
		}
		server := driver.Server{
			Address: address, Role: "follower", Version: "etcd " + status.Version, RunID: strconv.FormatUint(status.Header.MemberId, 16),
			Persistence: "log of a majority", Warnings: warnings(status.Version), CheckedAt: asked,
		}
		switch {
		case status.IsLearner:
			server.Role = "learner"
		case status.Leader == status.Header.MemberId:
			server.Role = "leader"
		}
		for _, alarm := range status.Errors {
			server.Warnings = append(server.Warnings, "the member raises an alarm: "+strings.ToLower(alarm))
		}
		told[address] = server
		if status.DbSizeQuota > 0 {
			used[address] = float64(status.DbSize) / float64(status.DbSizeQuota)
		}
	}
}

// report tells the operator what is new of a member.
func (m *members) report(s *Store, was, is driver.Server) {
	if was.Version == is.Version && was.Role == is.Role && slices.Equal(was.Warnings, is.Warnings) {
		return
	}
	s.o.Logger.Info("connected to "+is.Version, driver.LogBackend, "etcd", driver.LogAddress, is.Address, driver.LogState, is.Role)
	for _, warning := range is.Warnings {
		s.o.Logger.Warn(warning, driver.LogBackend, "etcd", driver.LogAddress, is.Address)
	}
}

// Describe tells of the members what they last said. It asks nothing.
func (s *Store) Describe() []driver.Server {
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	servers := make([]driver.Server, 0, len(s.o.Endpoints))
	for _, address := range s.o.Endpoints {
		server, ok := s.members.told[address]
		if !ok {
			server = driver.Server{Address: address}
		}
		servers = append(servers, server)
	}
	return servers
}

// warnings are what an operator should know of a version. Before 3.5.23, and in
// 3.6 before 3.6.5, leases may end wrongly around a change of the leader.
func warnings(version string) []string {
	var v [3]int
	for i, part := range strings.SplitN(strings.SplitN(version, "-", 2)[0], ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			return nil
		}
		v[i] = n
	}
	old := slices.Compare(v[:], []int{3, 5, 23}) < 0 || slices.Compare(v[:], []int{3, 6, 0}) >= 0 && slices.Compare(v[:], []int{3, 6, 5}) < 0
	if !old {
		return nil
	}
	return []string{"etcd " + version + " has known bugs with leases: upgrade to 3.5.23, 3.6.5 or later"}
}
