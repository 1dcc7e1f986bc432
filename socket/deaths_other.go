//go:build !linux

package socket

import "sync"

// deaths watches nobody where there are no pidfds.
type deaths struct {
	mu      sync.Mutex
	mourned int
	nextID  uint64
}

func newDeaths() (*deaths, error) { return &deaths{}, nil }
func (d *deaths) watch(int) *life { return nil }
func (d *deaths) forget(*life)    {}
func (d *deaths) close()          {}
