package dynamodb

import (
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// unreported are expiries that a call has written whose answer was a refusal, or had
// nobody left to hear it, so that it could not tell of them: the next one at the lock
// does.
type unreported struct {
	mu  sync.Mutex
	all map[string][]driver.Ended
}

// maxUnreported bounds the locks that have such ends.
const maxUnreported = 4096

func (u *unreported) add(lockID string, ends []driver.Ended) {
	if len(ends) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[string][]driver.Ended)
	}
	if len(u.all) < maxUnreported || u.all[lockID] != nil {
		u.all[lockID] = append(u.all[lockID], ends...)
	}
}

// take returns the ends of a lock that are to be told, or the one with the token.
func (u *unreported) take(lockID string, token int64) (taken []driver.Ended) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var left []driver.Ended
	for _, e := range u.all[lockID] {
		if token == 0 || e.Token == token {
			taken = append(taken, e)
		} else {
			left = append(left, e)
		}
	}
	if len(left) > 0 {
		u.all[lockID] = left
	} else {
		delete(u.all, lockID)
	}
	return taken
}

// expiriesIn are those that an answer tells of.
func expiriesIn(answer any) []driver.Ended {
	switch a := answer.(type) {
	case *driver.AcquireResult:
		return a.Evicted
	case *driver.Ended:
		if a.Cause == driver.CauseExpired {
			return []driver.Ended{*a}
		}
	}
	return nil
}
