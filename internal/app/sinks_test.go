package app

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// A sink that hangs does not keep the process: its write cannot be interrupted.
func TestTheEndDoesNotWaitForASinkThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out testenv.Output
		s := newSinks(&daemon{o: Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}})
		hangs, began := make(chan struct{}), time.Now()
		s.working.Go(func() { <-hangs })
		s.close()
		if took := time.Since(began); took != sinkTimeout+cutTimeout || s.last.Err() == nil {
			t.Errorf("it took %v, cut off: %v", took, s.last.Err())
		}
		if out.String() == "" {
			t.Error("nobody is told")
		}
		close(hangs)
	})
}

// One that ends is waited for, and cut off when its time is over.
func TestTheEndWaitsForTheSinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSinks(&daemon{o: Options{Logger: slog.New(slog.DiscardHandler)}})
		began := time.Now()
		s.working.Go(func() { <-s.last.Done() })
		s.close()
		if took := time.Since(began); took != sinkTimeout {
			t.Errorf("it took %v", took)
		}
	})
}
