package conformance

import (
	"fmt"
	"maps"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func adminCases() []Case {
	return []Case{
		{Name: "Admin/InspectShowsTheLock", Guarantee: "Inspect shows holders with their metadata, and waiters; a free lock is no error.",
			Run: func(t *T) {
				if l := t.Inspect(t.D, t.Lock("free")); len(l.Holders)+len(l.Waiters) != 0 {
					t.Errorf("a free lock has %+v", l)
				}
				r := t.Request(t.Lock("a"), "one", ttl(20*time.Second))
				r.Metadata = map[string]string{"host": "web-1", "odd \x1f key": "line\nbreak \x1e ü"}
				g := t.Must(t.D, r)
				t.Queue(t.D, t.Request(t.Lock("a"), "two", priority(3)))
				l := t.Inspect(t.D, t.Lock("a"))
				if len(l.Holders) != 1 || l.Holders[0].OwnerID != "one" || l.Holders[0].Token != g.Token || l.Holders[0].HoldCount != 1 || !maps.Equal(l.Holders[0].Metadata, r.Metadata) {
					t.Errorf("holders %+v", l.Holders)
				}
				if len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "two" || l.Waiters[0].Priority != 3 {
					t.Errorf("waiters %+v", l.Waiters)
				}
			}},
		{Name: "Admin/ListPagesWithoutLossOrRepeat", Guarantee: "Listing page by page returns each standing lock of the prefix exactly once.",
			Run: func(t *T) {
				const n = 200
				for i := range n {
					t.Must(t.D, t.Request(t.Lock(fmt.Sprint("list/", i)), "one", ttl(50*time.Second)))
				}
				t.Must(t.D, t.Request(t.Lock("other"), "one"))
				seen := make(map[string]int)
				req := &driver.ListRequest{Prefix: t.Lock("list/"), PageSize: 7}
				for {
					page, err := t.D.List(t.ctx, req)
					if err != nil {
						t.Fatalf("list: %v", err)
					}
					if len(page.Locks) > req.PageSize {
						t.Errorf("a page of %d locks, asked for %d", len(page.Locks), req.PageSize)
					}
					for _, l := range page.Locks {
						seen[l.LockID]++
					}
					if req.PageToken = page.NextPageToken; req.PageToken == "" {
						break
					}
				}
				for id, times := range seen {
					if times != 1 {
						t.Errorf("%s was listed %d times", id, times)
					}
				}
				if len(seen) != n {
					t.Errorf("%d of %d locks were listed", len(seen), n)
				}
			}},
	}
}
