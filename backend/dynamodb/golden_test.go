package dynamodb

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var writeGolden = flag.Bool("write-golden", false, "write the golden items of the current format, as the current code stores them")

const goldenFile = "testdata/format1.json"

// makeGolden leaves a held, a shared, a queued, an idle and a forced lock.
func makeGolden(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	held := request("held", "one", func(r *driver.AcquireRequest) { r.Metadata = map[string]string{"host": "a", "odd \x1f": "line\nü"} })
	l := granted(t, s, held)
	granted(t, s, request("held", "two", func(r *driver.AcquireRequest) { r.OwnerID, r.Key, r.Reentrant = held.OwnerID, held.Key, true }))
	ref := refOf(held, l)
	ref.Attach = 0
	_, err := s.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
	must(err)
	granted(t, s, request("shared", "r1", shared))
	revoked := granted(t, s, request("shared", "r2", shared))
	_, err = s.Revoke(ctx, &driver.EvictRequest{LockID: "shared", Token: revoked.Token, Cause: driver.CauseForced})
	must(err)
	granted(t, s, request("queued", "holder"))
	for i, name := range []string{"w1", "w2", "w3"} {
		waiting(t, s, request("queued", name, func(r *driver.AcquireRequest) { r.Shared, r.Priority = i == 1, i/2 }))
	}
	idle := request("idle", "done")
	release(t, s, idle, granted(t, s, idle))
	must(s.Leave(ctx, &driver.LeaveRequest{LockID: "idle", RequestID: "left", Key: driver.KeyOf("left")}))
	forced := granted(t, s, request("forced", "victim"))
	_, err = s.Evict(ctx, &driver.EvictRequest{LockID: "forced", Token: forced.Token, Cause: driver.CauseForced})
	must(err)
}

// plain is an attribute as JSON has it, in the form of the service.
func plain(v value) any {
	switch v := v.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberL:
		l := make([]any, len(v.Value))
		for i, e := range v.Value {
			l[i] = plain(e)
		}
		return map[string]any{"L": l}
	case *types.AttributeValueMemberM:
		m := make(map[string]any)
		for name, e := range v.Value {
			m[name] = plain(e)
		}
		return map[string]any{"M": m}
	}
	panic("an attribute of another kind")
}

// rich is the attribute of what plain made.
func rich(p any) value {
	for kind, v := range p.(map[string]any) {
		switch kind {
		case "S":
			return text(v.(string))
		case "N":
			return &types.AttributeValueMemberN{Value: v.(string)}
		case "BOOL":
			return truthOf(v.(bool))
		case "L":
			var l []value
			for _, e := range v.([]any) {
				l = append(l, rich(e))
			}
			return list(l)
		case "M":
			m := make(map[string]value)
			for name, e := range v.(map[string]any) {
				m[name] = rich(e)
			}
			return object(m)
		}
	}
	panic("an attribute of another kind")
}

// restored is an emulator with the golden items, and a driver on it whose clock the
// test sets.
func restored(t *testing.T) (*Store, *at) {
	t.Helper()
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	clock := &at{}
	clock.pass(time.Hour)
	_, s := started(t, func(o *Options) { o.Clock = clock })
	if err := s.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		item := make(map[string]value)
		for name, v := range p {
			item[name] = rich(v)
		}
		put(t, s, item)
	}
	return s, clock
}

func TestGoldenItemsAreRead(t *testing.T) {
	t.Parallel()
	if *writeGolden {
		e, s := started(t)
		makeGolden(t, s)
		var all []map[string]any
		for _, item := range e.MustItems(t, table1) {
			p := make(map[string]any)
			for name, v := range item {
				p[name] = plain(v)
			}
			all = append(all, p)
		}
		slices.SortFunc(all, func(a, b map[string]any) int {
			return strings.Compare(a["k"].(map[string]any)["S"].(string), b["k"].(map[string]any)["S"].(string))
		})
		raw, err := json.MarshalIndent(all, "", " ")
		if err = errors.Join(err, os.WriteFile(goldenFile, append(raw, '\n'), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s, clock := restored(t)
	for lock, want := range map[string]string{
		"held":   "holder owner of one shared false holds 2 attach 2 revoked false highest true; ",
		"shared": "holder owner of r1 shared true holds 1 attach 1 revoked false highest false; holder owner of r2 shared true holds 1 attach 1 revoked true highest true; ",
		"queued": "holder owner of holder shared false holds 1 attach 1 revoked false highest true; waiter owner of w3 at 1; waiter owner of w1 at 2; waiter owner of w2 at 3; ",
		"idle":   "", "forced": "",
	} {
		if got := state(inspect(t, s, lock)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", lock, got, want)
		}
	}
	if m := inspect(t, s, "held").Holders[0].Metadata; m["host"] != "a" || m["odd \x1f"] != "line\nü" {
		t.Errorf("metadata %q", m)
	}
	// What was remembered is remembered.
	for lock, name := range map[string]string{"idle": "done", "forced": "victim"} {
		_, err := s.Acquire(t.Context(), request(lock, name))
		if !errors.Is(err, driver.ErrLost) {
			t.Errorf("a late acquire of %s: %v", name, err)
		}
	}
	_, err := s.Acquire(t.Context(), request("idle", "left"))
	lost(t, err, driver.CauseReleased)
	// The secrets prove the leases, tokens rise, waiters are served.
	h := inspect(t, s, "held").Holders[0]
	one := request("held", "one")
	renew(t, s, one, &driver.Lease{Token: h.Token, Attach: h.Attach})
	res, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "held", Key: one.Key, Token: h.Token}, RequestID: "two"})
	if err != nil || res.HoldCount != 1 || res.OwnerID != "owner of one" {
		t.Errorf("release of the second hold: %+v, %v", res, err)
	}
	last := inspect(t, s, "idle").Token
	if l := granted(t, s, request("idle", "new")); l.Token <= last {
		t.Errorf("token %d after %d", l.Token, last)
	}
	waiting(t, s, request("queued", "w1"))
	clock.pass(time.Minute) // nobody renews it; the golden waiters have a minute, too
	granted(t, s, request("queued", "w1", queued))
}

// A record of a newer major is refused by name, by every call, and left alone.
func TestANewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	e, s := started(t)
	r := request("a", "one")
	ref := refOf(r, granted(t, s, r))
	ref.Attach = 0
	newer := e.MustItems(t, table1)[0] // it looks the same
	newer["f"], newer["what"] = number(driver.Format+1), text("ever")
	put(t, s, newer)
	before := e.MustItems(t, table1)
	for name, call := range map[string]func() error{
		"acquire": func() error { _, err := s.Acquire(t.Context(), r); return err },
		"renew": func() error {
			_, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
			return err
		},
		"adopt": func() error {
			_, err := s.Adopt(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
			return err
		},
		"release": func() error {
			_, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref, RequestID: "one"})
			return err
		},
		"leave":   func() error { return s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "one"}) },
		"inspect": func() error { _, err := s.Inspect(t.Context(), "a"); return err },
		"evict": func() error {
			_, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: 1, Cause: driver.CauseForced})
			return err
		},
		"revoke": func() error {
			_, err := s.Revoke(t.Context(), &driver.EvictRequest{LockID: "a", Token: 1, Cause: driver.CauseForced})
			return err
		},
	} {
		if err := call(); !errors.Is(err, driver.ErrFormat) || !strings.Contains(err.Error(), "format 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := e.MustItems(t, table1); !reflect.DeepEqual(after, before) {
		t.Errorf("the items became %v", after)
	}
}
