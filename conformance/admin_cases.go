package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func adminCases() []Case {
	return []Case{
		{Name: "Admin/InspectShowsTheLock", Guarantee: "Inspect shows holders with their metadata, and waiters; a free lock is no error.",
			Run: func(t *T) {
				if l := t.Inspect(t.D, t.Lock("free")); len(l.Holders)+len(l.Waiters) != 0 {
					t.Errorf("a free lock has %+v", l)
				}
				r := t.Request(t.Lock("a"), "one")
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
		{Name: "Admin/ListPagesWithoutLossOrRepeat", Guarantee: "Listing page by page returns each of 10,000 standing locks (fewer on a slow machine) of the prefix exactly once, while others come and go.", Busy: true,
			Run: func(t *T) {
				const n, makers = 10_000, 50
				start := t.now()
				var made atomic.Int64
				t.each(makers, func(maker int) {
					for i := maker; i < n && t.now().Sub(start) < lasting/3; i += makers {
						t.Must(t.D, t.Request(t.Lock(fmt.Sprint("list/", i)), "one"))
						made.Add(1)
					}
				})
				t.Must(t.D, t.Request(t.Lock("other"), "one"))
				var listed atomic.Bool
				churned := make(chan struct{})
				go func() {
					defer close(churned)
					for i := 0; !listed.Load(); i++ {
						r := t.Request(t.prefix+"/list/churn-"+fmt.Sprint(i%7), "churn")
						if res, err := t.D.Acquire(t.ctx, r); err == nil && res.Lease != nil {
							_, _ = t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: (&grant{res.Lease, r}).ref(), RequestID: r.RequestID})
						}
					}
				}()
				seen := make(map[string]int)
				for _, l := range t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("list/"), PageSize: 700}) {
					seen[l.LockID]++
				}
				listed.Store(true)
				<-churned
				maps.DeleteFunc(seen, func(id string, _ int) bool { return strings.Contains(id, "churn") })
				for id, times := range seen {
					if times != 1 {
						t.Errorf("%s was listed %d times", id, times)
					}
				}
				if len(seen) != int(made.Load()) {
					t.Errorf("%d of %d locks were listed", len(seen), made.Load())
				}
			}},
		{Name: "Admin/ListShowsContendedLocksAlone", Guarantee: "A listing of the contended locks has those that have waiters, and no others.",
			Run: func(t *T) {
				for i := range 6 {
					lock := t.Lock(fmt.Sprint("list/", i))
					t.Must(t.D, t.Request(lock, "holder"))
					if i%2 == 0 {
						t.Queue(t.D, t.Request(lock, "waiter"))
					}
				}
				var got []string
				for _, l := range t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("list/"), Contended: true, PageSize: 2}) {
					got = append(got, strings.TrimPrefix(l.LockID, t.Lock("list/")))
				}
				if slices.Sort(got); !slices.Equal(got, []string{"0", "2", "4"}) {
					t.Errorf("listed %v, want 0, 2 and 4", got)
				}
			}},
		{Name: "Admin/ForeignPageTokenIsRefused", Guarantee: "A page token that the store did not make is refused as invalid.",
			Run: func(t *T) {
				for _, token := range []string{"?", "\x00", "v9:zz", strings.Repeat("x", 300)} {
					if _, err := t.D.List(t.ctx, &driver.ListRequest{PageSize: 1, PageToken: token}); !errors.Is(err, driver.ErrInvalid) {
						t.Errorf("page token %q: error %v, want it invalid", token, err)
					}
				}
			}},
		{Name: "Admin/PrefixIsTakenLiterally", Guarantee: "A listing's prefix has no wildcards and is not cut at a slash.",
			Run: func(t *T) {
				for _, id := range []string{"p/ab", "p/a{x}", "p/a", "p/b"} {
					t.Must(t.D, t.Request(t.Lock(id), "one"))
				}
				for prefix, want := range map[string]int{"p/a": 3, "p/a{": 1, "p/[ab]": 0, "p/*": 0, "p/?": 0, "p/": 4} {
					if listed := t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("") + prefix, PageSize: 100}); len(listed) != want {
						t.Errorf("prefix %q: %+v, want %d locks", prefix, listed, want)
					}
				}
			}},
	}
}
