package app

import (
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/deadlock"
)

// newDetector makes the detector over all open branches.
func (d *daemon) newDetector() *deadlock.Detector {
	return deadlock.New(deadlock.Options{
		Stores: func() (stores []deadlock.Local) {
			for _, b := range d.list() {
				stores = append(stores, b.store)
			}
			return stores
		},
		Policy: func() (detect, resolve bool) {
			c := d.inForce()
			return !c.NoDeadlocks, c.BreakDeadlocks
		},
		Looked: func(f *deadlock.Finding, fresh []deadlock.Deadlock) {
			d.metrics.Deadlocks(len(f.Deadlocks), len(fresh))
			for i := range fresh {
				v := &fresh[i].Waits[fresh[i].Victim]
				d.events.Deadlock(fresh[i].Message())
				d.o.Logger.Warn("owners wait for each other", driver.LogBackend, v.Backend, driver.LogLock, v.LockID, driver.LogCount, len(fresh[i].Waits))
			}
		},
		Refused: func(one *deadlock.Deadlock) {
			v := &one.Waits[one.Victim]
			d.metrics.DeadlockBroken()
			d.o.Logger.Warn("a waiter was refused to break a deadlock", driver.LogBackend, v.Backend, driver.LogLock, v.LockID)
		},
		Logger: d.o.Logger,
	})
}
