package conformance

import (
	"fmt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func reentrant(g *grant) option {
	return func(r *driver.AcquireRequest) { r.Reentrant, r.Key = true, g.req.Key }
}

func modeCases() []Case {
	return []Case{
		{Name: "Modes/ReadersTogetherWriterAlone", Guarantee: "Shared leases stand together; an exclusive one stands alone.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				one := t.Must(t.D, t.Request(t.Lock("a"), "one", shared))
				two := t.Must(t.D, t.Request(t.Lock("a"), "two", shared))
				t.Refused(t.D, t.Request(t.Lock("a"), "writer"))
				t.Release(t.D, one)
				t.Refused(t.D, t.Request(t.Lock("a"), "writer"))
				t.Release(t.D, two)
				t.Must(t.D, t.Request(t.Lock("a"), "writer"))
				t.Refused(t.D, t.Request(t.Lock("a"), "reader", shared))
			}},
		{Name: "Modes/WaitingWriterStopsLaterReaders", Guarantee: "While a writer waits, a later reader is not granted, although readers hold the lock.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				reader := t.Must(t.D, t.Request(t.Lock("a"), "reader", shared))
				writer, late := t.Request(t.Lock("a"), "writer"), t.Request(t.Lock("a"), "late", shared)
				t.Queue(t.D, writer)
				t.Queue(t.D, late)
				t.Refused(t.D, t.Request(t.Lock("a"), "try", shared))
				t.Release(t.D, reader)
				g := t.Await(t.D, writer)
				t.Queue(t.D, late)
				t.Release(t.D, g)
				t.Await(t.D, late)
			}},
		{Name: "Modes/ReadersAtTheHeadGoTogether", Guarantee: "After a writer, the readers at the head of the queue are granted together, and those behind the next writer are not.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				var readers []*driver.AcquireRequest
				for i := range 3 {
					readers = append(readers, t.Request(t.Lock("a"), fmt.Sprint("reader ", i), shared))
					t.Queue(t.D, readers[i])
				}
				writer, behind := t.Request(t.Lock("a"), "writer"), t.Request(t.Lock("a"), "behind", shared)
				t.Queue(t.D, writer)
				t.Queue(t.D, behind)
				t.Release(t.D, holder)
				for i := len(readers) - 1; i >= 0; i-- { // each may come first
					t.Await(t.D, readers[i])
				}
				t.Queue(t.D, behind)
				t.Queue(t.D, writer)
			}},
		{Name: "Modes/DeadReaderLetsTheWriterIn", Guarantee: "A reader that dies while another renews does not hold the writer up beyond its own TTL.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				dead := t.Must(t.D, t.Request(t.Lock("a"), "dead", shared, t.brief))
				living := t.Must(t.D, t.Request(t.Lock("a"), "living", shared))
				writer := t.Request(t.Lock("a"), "writer")
				t.Queue(t.D, writer)
				t.expire(dead)
				if _, err := t.Renew(t.D, living); err != nil {
					t.Fatalf("renew: %v", err)
				}
				t.Queue(t.D, writer)
				t.Release(t.D, living)
				t.Await(t.D, writer)
			}},
		{Name: "Modes/NoUpgrade", Guarantee: "An owner that holds the lock in one mode is refused the other, clearly.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", shared))
				if held := t.Refused(t.D, t.Request(t.Lock("a"), "one", reentrant(g))); !held.BySelf || !held.OtherMode {
					t.Errorf("refused by %+v, want the other mode of its own", held)
				}
			}},
		{Name: "Modes/NoDowngrade", Guarantee: "An owner that holds the lock exclusively is refused the shared mode, waiting or not, clearly.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "one"))
				for _, r := range []*driver.AcquireRequest{t.Request(t.Lock("a"), "one", shared), t.Request(t.Lock("a"), "one", shared, enqueue)} {
					if held := t.Refused(t.D, r); !held.BySelf || !held.OtherMode {
						t.Errorf("refused by %+v, want the other mode of its own", held)
					}
				}
			}},
		{Name: "Modes/ManyReadersLeaveOneByOne", Guarantee: "The writer waits for the last of many readers, whichever order they leave in.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				var readers []*grant
				for i := range 10 {
					readers = append(readers, t.Must(t.D, t.Request(t.Lock("a"), fmt.Sprint("reader ", i), shared)))
				}
				writer := t.Request(t.Lock("a"), "writer")
				t.Queue(t.D, writer)
				for i := range readers {
					t.Queue(t.D, writer)
					t.Release(t.D, readers[(i*3)%len(readers)])
				}
				t.Await(t.D, writer)
			}},
	}
}
