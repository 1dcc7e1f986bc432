package traces

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// world is a traced driver on an embedded store, and what it made.
type world struct {
	t     *testing.T
	d     driver.Driver
	t2    *Tracer
	spans *tracetest.SpanRecorder
}

func newWorld(t *testing.T, o Options) *world {
	t.Helper()
	raw, err := embedded.New(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, spans: tracetest.NewSpanRecorder()}
	w.t2 = over(w.spans, o)
	w.d = w.t2.Driver("main", raw)
	t.Cleanup(func() {
		if err := errors.Join(w.d.Close(), w.t2.Close(context.Background())); err != nil {
			t.Error(err)
		}
	})
	return w
}

// call is the context of an application's call.
func (w *world) call() context.Context {
	ctx, _ := w.t2.Begin(w.t.Context(), "call", nil)
	return ctx
}

// names are those of the spans that have ended, in order.
func (w *world) names() (names []string) {
	for _, s := range w.spans.Ended() {
		names = append(names, s.Name()+" "+outcome(s))
	}
	return names
}

func outcome(s sdk.ReadOnlySpan) string {
	for _, a := range s.Attributes() {
		if a.Key == "locksidecar.outcome" {
			return a.Value.AsString()
		}
	}
	return ""
}

func (w *world) is(want ...string) {
	w.t.Helper()
	if got := w.names(); !slices.Equal(got, want) {
		w.t.Errorf("the spans are %q, want %q", got, want)
	}
	w.spans.Reset()
}

func asked(id string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: "a", OwnerID: "owner of " + id, RequestID: id, Key: driver.KeyOf(id), TTL: 10 * time.Second, PlaceTTL: 10 * time.Second, Enqueue: true,
	}
}

func TestAWaitAndItsHandOffAreSpans(t *testing.T) {
	w := newWorld(t, Options{})
	holder, err := w.d.Acquire(t.Context(), asked("1")) // nobody traces it
	if err != nil {
		t.Fatal(err)
	}
	w.is()
	watching, stop := context.WithCancel(t.Context())
	hinted, watched := make(chan driver.Hint, 16), make(chan error, 1)
	go func() { watched <- w.d.Watch(watching, func(h driver.Hint) { hinted <- h }) }()
	two, three := w.call(), w.call()
	for range 2 { // a repeat does not begin another wait
		if res, err := w.d.Acquire(two, asked("2")); err != nil || res.Lease != nil {
			t.Fatal(res, err)
		}
	}
	if res, err := w.d.Acquire(three, asked("3")); err != nil || res.Lease != nil {
		t.Fatal(res, err)
	}
	w.is("store acquire ", "store acquire ", "store acquire ")
	ref := driver.LeaseRef{LockID: "a", Key: driver.KeyOf("1"), Token: holder.Lease.Token}
	deadline := time.After(time.Minute)
	released := false
	for h := (driver.Hint{}); h.RequestID != "2"; { // the watch may not have begun
		if !released {
			if _, err := w.d.Release(w.call(), &driver.ReleaseRequest{LeaseRef: ref}); err != nil {
				t.Fatal(err)
			}
			released = true
		}
		select {
		case h = <-hinted:
		case <-time.After(100 * time.Millisecond):
			h.RequestID = "2" // then a poll finds it
		case <-deadline:
			t.Fatal("no hint came")
		}
	}
	if res, err := w.d.Acquire(two, asked("2")); err != nil || res.Lease == nil {
		t.Fatal(res, err)
	}
	w.is("store release ", "store acquire ", "wait granted", "hand-off granted")
	last := asked("3")
	last.Enqueue = false
	if _, err := w.d.Acquire(three, last); !errors.Is(err, driver.ErrHeld) {
		t.Fatal(err)
	}
	w.is("store acquire lock is held", "wait lock is held")
	four := w.call()
	if _, err := w.d.Acquire(four, asked("4")); err != nil {
		t.Fatal(err)
	}
	if err := w.d.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "4"}); err != nil { // in the background
		t.Fatal(err)
	}
	w.is("store acquire ", "wait left")
	if n := len(w.d.(*store).waiting); n != 0 {
		t.Errorf("%d waiters are remembered", n)
	}
	stop()
	if err := <-watched; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestCallsAreSpansOfTheBackendAndTheLock(t *testing.T) {
	w := newWorld(t, Options{})
	ctx := w.call()
	answered := make(chan *driver.AcquireResult, 1)
	driver.AcquireAsync(ctx, w.d, asked("1"), func(res *driver.AcquireResult, _ error) { answered <- res })
	ref := driver.LeaseRef{LockID: "a", Key: driver.KeyOf("1"), Token: (<-answered).Lease.Token}
	_, _ = w.d.Renew(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second})
	_ = driver.RenewMany(ctx, w.d, []driver.RenewRequest{{LeaseRef: ref, TTL: 10 * time.Second}})
	_, _ = w.d.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second})
	_, _ = w.d.Inspect(ctx, "a")
	_, _ = w.d.List(ctx, &driver.ListRequest{PageSize: 1})
	evict := &driver.EvictRequest{LockID: "a", Token: ref.Token, Cause: driver.CauseForced}
	_, _ = w.d.Revoke(ctx, evict)
	_, _ = w.d.Evict(ctx, evict)
	released := make(chan error, 1)
	driver.ReleaseAsync(ctx, w.d, &driver.ReleaseRequest{LeaseRef: ref}, func(_ *driver.ReleaseResult, err error) { released <- err })
	if err := <-released; !errors.Is(err, driver.ErrLost) {
		t.Fatal(err)
	}
	for _, s := range w.spans.Ended() {
		has := map[attribute.Key]string{}
		for _, a := range s.Attributes() {
			has[a.Key] = a.Value.AsString()
		}
		if has["locksidecar.backend"] != "main" || has["locksidecar.lock_id"] != "a" && s.Name() != "store list" {
			t.Errorf("%s has the attributes %v", s.Name(), has)
		}
	}
	w.is("store acquire ", "store renew ", "store adopt ", "store inspect ", "store list ", "store revoke ", "store evict ", "store release lease is lost")
	if _, ok := driver.As[driver.Sweeper](w.d); !ok {
		t.Error("the driver does not sweep any more")
	}
}

func TestTheShareOfTracedCallsIsTheApplicationsOrOurs(t *testing.T) {
	w := newWorld(t, Options{OneIn: 1_000_000_000})
	for range 100 {
		_, _ = w.d.Inspect(w.call(), "a")
	}
	w.is()
	header := map[string][]string{"Traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}
	ctx, end := w.t2.Begin(t.Context(), "call", header)
	_, _ = w.d.Inspect(ctx, "a")
	end()
	w.is("store inspect ", "call ")
}

func TestOutcomesHaveNoTextOfAStore(t *testing.T) {
	for err, want := range map[error]string{
		errors.Join(driver.ErrUnavailable, errors.New("dial 10.0.0.1")): driver.ErrUnavailable.Error(), errors.New("password"): "error",
		context.Canceled: context.Canceled.Error(),
	} {
		if got := reason(err); got != want {
			t.Errorf("%v is told as %q", err, got)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:4317": true, "https://collector": true, "127.0.0.1:4317": false, "http://": false, "grpc://h:1": false,
		"http://u:p@h:4317": false, "http://h:4317/v1/traces": false, "http://h:1?x=1": false, "": false,
	} {
		if err := ValidEndpoint(endpoint); (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
	}
	if _, err := New(t.Context(), Options{Endpoint: "nowhere"}); err == nil {
		t.Error("a tracer without a collector was made")
	}
}
