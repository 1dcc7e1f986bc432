package deadlock

import "slices"

// remembered bounds how many deadlocks are known to be told.
const remembered = 4 * MaxFound

// told are the ids of the deadlocks that were told, those first that were not seen
// for the longest time. An id stands for the same tickets and tokens, which do not
// come again: one that was out of sight, because a store failed or nobody looked, is
// no news when it is seen again.
type told []string

// fresh are those of the found ones that were not told before; they are now.
func (t *told) fresh(found []Deadlock) (fresh []Deadlock) {
	for i := range found {
		at := slices.Index(*t, found[i].ID)
		if at < 0 {
			fresh = append(fresh, found[i])
		} else {
			*t = slices.Delete(*t, at, at+1)
		}
		*t = append(*t, found[i].ID)
	}
	*t = slices.Delete(*t, 0, max(0, len(*t)-remembered))
	return fresh
}
