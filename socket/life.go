package socket

import "sync"

// maxMourned bounds how many streams wait for the death of a process whose
// connection is gone; beyond it a lease ends by its TTL.
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
	mourners   map[uint64]func()
}

// keep adds a reference, which release gives back. It returns nil if the process
// is not watched any more, because its connection has been closed.
func (l *life) keep() *life {
	if l == nil {
		return nil
	}
	l.deaths.mu.Lock()
	defer l.deaths.mu.Unlock()
	if l.references == 0 {
		return nil
	}
	l.references++
	return l
}

// mourn calls f, once, when the process dies: at once if it has died, and not
// after forgo, which is to be called in the end. The caller has a reference.
func (l *life) mourn(f func()) (forgo func()) {
	d := l.deaths
	d.mu.Lock()
	if l.isOver() {
		d.mu.Unlock()
		f()
		return func() {}
	}
	defer d.mu.Unlock()
	if d.mourned >= maxMourned {
		return func() {}
	}
	d.mourned++
	d.nextID++
	id := d.nextID
	if l.mourners == nil {
		l.mourners = make(map[uint64]func())
	}
	l.mourners[id] = f
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.mourned--
		delete(l.mourners, id)
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
