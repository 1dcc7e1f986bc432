package renew_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// diary is an observer that remembers.
type diary struct {
	mu      sync.Mutex
	held    []renew.HeldObservation
	renewed []renew.RenewedObservation
}

func (d *diary) Held(o renew.HeldObservation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = append(d.held, o)
}

func (d *diary) Lost(renew.LostObservation) {}

func (d *diary) Renewed(o renew.RenewedObservation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renewed = append(d.renewed, o)
}

// last are the latest renewal and all of the holds.
func (d *diary) last(t *testing.T) (renew.RenewedObservation, []renew.HeldObservation) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.renewed) == 0 {
		t.Fatal("no renewal was observed")
	}
	return d.renewed[len(d.renewed)-1], d.held
}

// An observer learns for how long a lease was held, and what was left of it at
// each renewal: about two thirds of its time while all is well, less after a
// renewal that failed.
func TestObserverLearnsOfTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newWorld(t), &diary{}
		disk := &frozen{Driver: w.memory.Open(), gate: make(chan struct{})}
		store := backend.New(disk, backend.Options{Clock: driver.ProcessClock})
		keeper := renew.New(store, renew.Options{Clock: driver.ProcessClock, Observer: d})
		w.closes(t, keeper, store)
		s := keeper.Open(renew.SessionOptions{Notify: func(renew.Event) {}})
		r := request("a", "1")
		r.Shared = true
		s.Acquire(t.Context(), r)
		time.Sleep(4 * time.Second) // by the bubble's clock
		synctest.Wait()
		renewed, _ := d.last(t)
		if share := renewed.Left.Seconds() / renewed.TTL.Seconds(); renewed.Result != renew.ResultOK || renewed.TTL != 10*time.Second || share < .55 || share > .75 {
			t.Errorf("a renewal in time: %+v", renewed)
		}
		disk.mode.Store(down)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if failed, _ := d.last(t); failed.Result != renew.ResultFailed {
			t.Errorf("a renewal that fails: %+v", failed)
		}
		disk.mode.Store(fine)
		time.Sleep(time.Second)
		synctest.Wait()
		late, _ := d.last(t)
		if late.Result != renew.ResultOK || late.Left >= renewed.Left {
			t.Errorf("a renewal after others failed: %+v", late)
		}
		s.Release(&backend.ReleaseRequest{RequestID: "1"})
		synctest.Wait()
		_, held := d.last(t)
		want := []renew.HeldObservation{{LockID: "a", Shared: true, Delta: 1}, {LockID: "a", Shared: true, Delta: -1, For: 10 * time.Second}}
		if len(held) != 2 || held[0] != want[0] || held[1] != want[1] {
			t.Errorf("held: %+v, want %+v", held, want)
		}
	})
}
