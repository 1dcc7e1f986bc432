package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// watch collects a driver's hints for the length of the case.
func (t *T) watch(d driver.Driver) <-chan driver.Hint {
	hints := make(chan driver.Hint, 64)
	ctx, cancel := context.WithCancel(t.ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := d.Watch(ctx, func(h driver.Hint) {
			select {
			case hints <- h:
			default: // hints may be lost
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v, want its context's error", err)
		}
	}()
	t.cleanup(func() {
		cancel()
		<-ended
	})
	return hints
}

// hinted repeats what should cause a hint until the hint comes: hints may be
// lost until the watch stands.
func (t *T) hinted(hints <-chan driver.Hint, cause func(n int) driver.Hint) {
	deadline := time.After(patience)
	for n := 0; ; n++ {
		want := cause(n)
		again := time.After(200 * time.Millisecond)
	next:
		for {
			select {
			case h := <-hints:
				if h == want {
					return
				}
			case <-again:
				break next
			case <-deadline:
				t.Fatalf("no hint came, such as %+v", want)
			}
		}
	}
}
