package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// unlisted is a store of which no list can be had while it is down.
type unlisted struct {
	driver.Driver
	down atomic.Bool
	// as is what its list fails with.
	as error
}

func (u *unlisted) Unwrap() driver.Driver { return u.Driver }

func (u *unlisted) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	if u.down.Load() {
		return nil, u.as
	}
	return u.Driver.List(ctx, req)
}

func TestListGoesThroughAllBackends(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "a/**", "a", "**", "b")
	var want []string
	for i := range 5 {
		for _, dir := range []string{"a", "b"} {
			lock := fmt.Sprintf("%s/%d", dir, i)
			w.acquire(t, backend.AcquireRequest{LockID: lock})
			want = append(want, dir+":"+lock)
		}
	}
	for _, size := range []int{0, 1, 2, 5} {
		var got []string
		for token, pages := "", 0; pages < 100; pages++ {
			page, err := w.List(t.Context(), &driver.ListRequest{PageSize: size, PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page.Locks {
				got = append(got, l.Backend+":"+l.LockID)
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: %v", size, got)
		}
	}
	if _, err := w.List(t.Context(), &driver.ListRequest{PageToken: "of nobody"}); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a token of nobody: %v", err)
	}
}

// A backend that cannot be reached, or hangs, takes nothing from the list but its own
// locks, and is named.
func TestListNamesWhatItCouldNotRead(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "a/**", "a", "**", "b")
	w.lists["b"].as = driver.ErrIndeterminate
	for _, down := range []string{"a", "b"} {
		other := map[string]string{"a": "b", "b": "a"}[down]
		w.acquire(t, backend.AcquireRequest{LockID: other + "/1"})
		w.lists[down].down.Store(true)
		var locks, failed []string
		for token, pages := "", 0; pages < 100; pages++ {
			page, err := w.List(t.Context(), &driver.ListRequest{PageToken: token})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range page.Locks {
				locks = append(locks, l.LockID)
			}
			failed = append(failed, page.Failed...)
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if !slices.Equal(locks, []string{other + "/1"}) || !slices.Equal(failed, []string{down}) {
			t.Errorf("%s is down: %v, without %v", down, locks, failed)
		}
		w.lists[down].down.Store(false)
	}
}
