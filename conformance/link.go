package conformance

import "github.com/locksidecar/locksidecar/backend/driver"

// Link is a driver that reaches the store by a connection of its own, to which
// things happen.
type Link struct {
	Driver driver.Driver
	// LoseReply has the store do what the n-th of the driver's next requests asks for,
	// and the driver not be told: the connection breaks instead. 0 takes it back.
	LoseReply func(n int)
	// Cut ends the driver as kill -9 of its process would: from now on no request
	// arrives. It may be followed by Close.
	Cut func()
}

// link opens a driver to which things happen. The suite closes it.
func (t *T) link() *Link {
	var l *Link
	var err error
	apart(func() { l, err = t.h.Link(t.ctx) })
	if err != nil {
		t.Fatalf("link: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, l.Driver)
	return l
}
