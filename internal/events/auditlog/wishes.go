package auditlog

import (
	"os"
	"sync"
)

// wishes are what is to be done to the file by whoever has its mutex, soon. Who
// wishes does not wait: a write may hang, and nothing can interrupt it.
type wishes struct {
	mu sync.Mutex
	// reopen: the path may name another file now.
	reopen bool
	// limits: maxBytes and keep are to change.
	limits   bool
	maxBytes int64
	keep     int
	// failed is told what could not be done; it is set before the first wish.
	failed func(error)
}

// wish changes the wishes, and has them done if nobody else will.
func (l *file) wish(change func(*wishes)) {
	l.wishes.mu.Lock()
	change(&l.wishes)
	l.wishes.mu.Unlock()
	go l.settle() // one waits for the disk at most: the others find the mutex taken
}

// settle does what is wished for, unless somebody has the mutex: that one calls
// settle afterwards.
func (l *file) settle() {
	for l.wishes.any() && l.mu.TryLock() {
		err := l.fulfil()
		l.mu.Unlock()
		if err != nil {
			l.wishes.failed(err)
		}
	}
}

func (w *wishes) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reopen || w.limits
}

// fulfil does what is wished for. The mutex is held.
func (l *file) fulfil() error {
	w := &l.wishes
	w.mu.Lock()
	reopen, limits, maxBytes, keep := w.reopen, w.limits, w.maxBytes, w.keep
	w.reopen, w.limits = false, false
	w.mu.Unlock()
	if l.f == nil {
		return nil
	}
	if limits {
		l.maxBytes, l.keep = maxBytes, keep
		if err := l.trim(); err != nil {
			return err
		}
	}
	if !reopen {
		return nil
	}
	mine, err := l.f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.path); err == nil && os.SameFile(mine, there) {
		return nil
	}
	return l.open()
}
