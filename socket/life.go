package socket

import "sync"

// maxMourned bounds the processes that are watched although their connection
// is closed; beyond it a death is not noticed and the lease ends by its TTL.
const maxMourned = 4096

// life is a process that is watched. It is watched for as long as somebody has
// a reference: the connection while it is open, and after that the leases that
// the process may still rely on.
type life struct {
	deaths *deaths
	id     uint64
	pidfd  int
	// dead is closed when the process is proven dead.
	dead chan struct{}

	// Guarded by deaths.mu.
	references int
	mourners   []func()
}

// retain keeps the process watched beyond its connection and calls f, once,
// when it dies. The caller calls release in the end, after which f may still be
// called while the connection is open. nil: it is not watched, and f not called.
func (l *life) retain(f func()) (release func()) {
	if l == nil {
		return nil
	}
	d := l.deaths
	d.mu.Lock()
	defer d.mu.Unlock()
	if l.references == 0 || l.isOver() || d.mourned >= maxMourned {
		return nil
	}
	l.references++
	d.mourned++
	l.mourners = append(l.mourners, f)
	return sync.OnceFunc(func() {
		d.mu.Lock()
		d.mourned--
		d.mu.Unlock()
		l.release()
	})
}

// release gives a reference back.
func (l *life) release() {
	if l == nil {
		return
	}
	l.deaths.mu.Lock()
	defer l.deaths.mu.Unlock()
	if l.references--; l.references == 0 {
		l.mourners = nil
		l.deaths.forget(l)
	}
}

// over is closed at the death of the process; nil, which never is, if its
// death cannot be proven.
func (l *life) over() <-chan struct{} {
	if l == nil {
		return nil
	}
	return l.dead
}

// isOver reports a proven death.
func (l *life) isOver() bool {
	select {
	case <-l.over():
		return true
	default:
		return false
	}
}
