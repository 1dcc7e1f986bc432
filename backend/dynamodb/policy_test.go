package dynamodb

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// The documented policy allows what the driver does, and nothing else.
func TestPolicyIsWhatTheDriverDoes(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/dynamodb/policy.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(raw, &policy); err != nil || len(policy.Statement) != 1 {
		t.Fatalf("%v: %+v", err, policy)
	}
	var allowed []string
	for _, action := range policy.Statement[0].Action {
		allowed = append(allowed, strings.TrimPrefix(action, "dynamodb:"))
	}
	e := testenv.StartDynamoT(t)
	if err := open(t, options(e, e.Endpoint())).Ping(t.Context()); err != nil { // it makes the table
		t.Fatal(err)
	}
	proxy := testenv.StartDynamoProxy(t, e)
	s, other := open(t, options(e, proxy.Endpoint())), open(t, options(e, proxy.Endpoint()))
	makeGolden(t, s)
	waiting(t, other, request("queued", "elsewhere"))
	for _, name := range []string{"w1", "w2", "w3"} {
		if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "queued", RequestID: name}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.List(t.Context(), &driver.ListRequest{PageSize: 10}); err != nil {
		t.Fatal(err)
	}
	s.chores.wg.Wait()
	did := proxy.Seen()
	slices.Sort(did)
	if did = slices.Compact(did); !slices.Equal(did, allowed) {
		t.Errorf("the driver did %v, the policy allows %v", did, allowed)
	}
}

// A stranger to a dead holder's lock needs that lease's time, and no more.
func TestAStrangerIsLateByOneLease(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	s := open(t, options(e, e.Endpoint(), func(o *Options) { o.MinTTL = time.Second }))
	granted(t, s, request("a", "dead", func(r *driver.AcquireRequest) { r.TTL = time.Second }))
	clock := &at{}
	stranger := open(t, options(e, e.Endpoint(), func(o *Options) { o.Clock = clock }))
	refused(t, stranger, request("a", "try"))
	clock.pass(time.Second - 1)
	refused(t, stranger, request("a", "try again"))
	clock.pass(1)
	granted(t, stranger, request("a", "at last"))
}
