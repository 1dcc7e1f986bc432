package socket

import (
	"sync"
	"time"
)

// mourning runs what is due when a process has been watched for long enough.
// Its timers end with the server.
type mourning struct {
	mu     sync.Mutex
	timers map[*time.Timer]func()
	over   bool
}

// after calls f once: after d, or when the server ends.
func (m *mourning) after(d time.Duration, f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		f()
		return
	}
	if m.timers == nil {
		m.timers = make(map[*time.Timer]func())
	}
	var t *time.Timer
	t = time.AfterFunc(d, func() {
		m.mu.Lock()
		delete(m.timers, t)
		m.mu.Unlock()
		f()
	})
	m.timers[t] = f
}

// end calls all that is left.
func (m *mourning) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = true
	for t, f := range m.timers {
		if t.Stop() {
			f()
		}
	}
	clear(m.timers)
}
