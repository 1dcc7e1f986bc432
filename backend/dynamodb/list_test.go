package dynamodb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Where many locks are idle, a listing needs more requests than one call has time
// for: its pages are short, or empty, and it goes on where it has come to.
func TestAListingGoesOnWhenItsTimeIsShort(t *testing.T) {
	t.Parallel()
	p, s := counted(t)
	filler := strings.Repeat("x", 300<<10) // a request reads 1 MB
	for i := range 12 {
		put(t, s, map[string]value{
			"k": text(s.recordKey(fmt.Sprint("idle/", i))), "f": number(driver.Format), "v": number(1), "tok": number(1), "seq": number(0),
			"h": object(nil), "q": list(nil), "gone": list(nil), "filler": text(filler),
		})
	}
	var want []string
	for i := range 3 {
		want = append(want, fmt.Sprint("held/", i))
		granted(t, s, request(want[i], "one"))
	}
	var found []string
	pages := 0
	for req := (&driver.ListRequest{PageSize: 10}); ; pages++ {
		p.Seen()
		page, err := func() (*driver.ListPage, error) {
			ctx, cancel := context.WithTimeout(t.Context(), s.o.Timeout-time.Second) // less than a second request may need
			defer cancel()
			return s.List(ctx, req)
		}()
		if err != nil {
			t.Fatalf("page %d: %v", pages, err)
		}
		seen(t, p, "a page without time", "Scan")
		for _, l := range page.Locks {
			found = append(found, l.LockID)
		}
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			break
		}
	}
	if slices.Sort(found); !slices.Equal(found, want) || pages < 2 {
		t.Errorf("%d pages have %v, want several with %v", pages+1, found, want)
	}
	whole, err := s.List(t.Context(), &driver.ListRequest{PageSize: 10})
	if err != nil || len(whole.Locks) != len(want) || whole.NextPageToken != "" {
		t.Errorf("with time: %+v, %v", whole, err)
	}
}
