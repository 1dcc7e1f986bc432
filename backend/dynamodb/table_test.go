package dynamodb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// failing has no credentials.
type failing struct{}

func (failing) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("there are none")
}

// A table that is not there is made if that is allowed, by one of many, and
// otherwise nothing is done; it is found when it is there.
func TestTableIsMadeOnDemand(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	without := open(t, options(e, e.Endpoint(), func(o *Options) { o.Create = false }))
	_, err := without.Acquire(t.Context(), request("a", "one"))
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "create=1") {
		t.Errorf("without a table: %v", err)
	}
	if d := without.Describe(); len(d) != 1 || d[0].Refused == "" {
		t.Errorf("described %+v", d)
	}
	var all sync.WaitGroup
	for _, name := range []string{"one", "two", "three", "four"} {
		s := open(t, options(e, e.Endpoint()))
		all.Go(func() { granted(t, s, request(name, name)) })
	}
	all.Wait()
	refused(t, without, request("one", "late"))
	d := without.Describe()
	if strings.HasPrefix(d[0].Version, "DynamoDB") {
		t.Errorf("an emulator is described as %q", d[0].Version)
	}
	if len(d) != 1 || d[0].Refused != "" || !strings.Contains(d[0].Persistence, "by request") || !strings.Contains(d[0].Version, testenv.DynamoRegion) || d[0].CheckedAt.IsZero() {
		t.Errorf("described %+v", d)
	}
}

func TestTableOfAnotherShapeIsRefused(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	for name, keys := range map[string][]string{"another-key": {"id"}, "two-keys": {"k", "z"}} {
		in := &sdk.CreateTableInput{TableName: &name, BillingMode: types.BillingModePayPerRequest}
		for i, k := range keys {
			kind := types.KeyTypeHash
			if i > 0 {
				kind = types.KeyTypeRange
			}
			in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: aws.String(k), KeyType: kind})
			in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: aws.String(k), AttributeType: types.ScalarAttributeTypeS})
		}
		if _, err := e.Client().CreateTable(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		s := open(t, options(e, e.Endpoint(), func(o *Options) { o.Table = name }))
		if _, err := s.Acquire(t.Context(), request("a", "one")); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "the table's key") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// answering stands before an emulator and answers some operations itself.
func answering(t *testing.T, e *testenv.Dynamo, answers map[string]string, status int) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if answer, ok := answers[operation]; ok {
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, answer)
			return
		}
		body, _ := io.ReadAll(r.Body)
		again, _ := http.NewRequestWithContext(r.Context(), r.Method, e.Endpoint()+"/", bytes.NewReader(body))
		again.Header = r.Header.Clone()
		answer, err := http.DefaultTransport.RoundTrip(again)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		defer func() { _ = answer.Body.Close() }()
		for name, values := range answer.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.StatusCode)
		_, _ = io.Copy(w, answer.Body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// A table that deletes items by an attribute of ours is not used; by another's it
// is. Where that cannot be seen, the log says so.
func TestTableThatDeletesLocksIsRefused(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	told := func(attribute, status string) string {
		return `{"TimeToLiveDescription":{"AttributeName":"` + attribute + `","TimeToLiveStatus":"` + status + `"}}`
	}
	for _, c := range []struct {
		attribute, status string
		refused           bool
	}{{"tok", "ENABLED", true}, {"v", "ENABLING", true}, {"tok", "DISABLED", false}, {"theirs", "ENABLED", false}} {
		s := open(t, options(e, answering(t, e, map[string]string{"DescribeTimeToLive": told(c.attribute, c.status)}, 200)))
		_, err := s.Acquire(t.Context(), request("a/"+c.attribute+c.status, "one"))
		if refused := errors.Is(err, driver.ErrUnavailable) && strings.Contains(err.Error(), c.attribute); refused != c.refused || !refused && err != nil {
			t.Errorf("time to live by %s %s: %v", c.attribute, c.status, err)
		}
	}
	var log lines
	s := open(t, options(e, answering(t, e, map[string]string{
		"DescribeTimeToLive": `{"__type":"com.amazon.coral.service#AccessDeniedException","message":"no"}`,
	}, 400), func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) }))
	granted(t, s, request("b", "one"))
	if !strings.Contains(log.String(), "dynamodb:DescribeTimeToLive") || len(s.Describe()[0].Warnings) != 1 {
		t.Errorf("the log says %q, the description %+v", log.String(), s.Describe())
	}
}

// A server that fails when it is asked for the time to live has said nothing of it.
func TestTableIsNotUsedUnseen(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	s := open(t, options(e, answering(t, e, map[string]string{
		"DescribeTimeToLive": `{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError","message":"later"}`,
	}, 500)))
	if _, err := s.Acquire(t.Context(), request("a", "one")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("acquire: %v, want the store unavailable", err)
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Clocks that are an hour apart: tokens rise whoever grants, and the one that is
// wrong by the servers' Date mints nothing and says so.
func TestClocksAnHourApart(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	var all []*Store
	var logs []*lines
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour, 10 * time.Minute, 200 * 365 * 24 * time.Hour} {
		log := &lines{}
		logs = append(logs, log)
		all = append(all, open(t, options(e, e.Endpoint(), func(o *Options) {
			o.Now, o.Logger = func() time.Time { return time.Now().Add(ahead) }, slog.New(slog.NewTextHandler(log, nil))
		})))
	}
	last := int64(0)
	for i := range 15 {
		s := all[i%len(all)]
		r := request("a", "r"+string(rune('a'+i)))
		l := granted(t, s, r)
		renewed := renew(t, s, r, l)
		// Whoever else renews it, by the key alone, is not refused by its clock.
		other := all[(i+1)%len(all)]
		if _, err := other.Renew(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: l.Token}, TTL: time.Minute}); err != nil {
			t.Errorf("a renewal by another clock: %v", err)
		}
		now := time.Now().UnixMicro()
		if l.Token <= last || l.Token > now || renewed.Token != l.Token {
			t.Errorf("token %d after %d, it is %d", l.Token, last, now)
		}
		last = l.Token
		release(t, s, r, l)
	}
	// A lock that nobody knows gets the servers' time, not the wrong clock's, nor 1.
	for i, s := range all {
		l := granted(t, s, request("fresh/"+string(rune('a'+i)), "one"))
		if age := time.Since(time.UnixMicro(l.Token)); age < -time.Second || age > time.Minute {
			t.Errorf("driver %d gives a new lock the token %d, %v old", i, l.Token, age)
		}
		if told := strings.Count(logs[i].String(), "makes no tokens"); told != min(i, 1) {
			t.Errorf("driver %d said %d times that its clock is not used:\n%s", i, told, logs[i])
		}
	}
}

// A release wakes this driver's next waiter at once, and nobody else's.
func TestAReleaseWakesTheNextWaiterHere(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	ctx, cancel := context.WithCancel(t.Context())
	hints, ended := make(chan driver.Hint, 100), make(chan error, 1)
	go func() { ended <- s.WatchLocal(ctx, func(h driver.Hint) { hints <- h }) }()
	for end := time.Now().Add(patience); !s.watched(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody watches")
		}
	}
	r := request("a", "holder")
	l := granted(t, s, r)
	waiting(t, s, request("a", "next"))
	waiting(t, s, request("a", "last"))
	for len(hints) > 0 {
		<-hints
	}
	release(t, s, r, l)
	want := driver.Hint{Kind: driver.HintGrantable, LockID: "a", RequestID: "next"}
	if h := <-hints; h != want {
		t.Errorf("hint %+v, want %+v", h, want)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the watch ended by %v", err)
	}
	if err := s.Watch(t.Context(), func(driver.Hint) {}); !errors.Is(err, driver.ErrUnsupported) {
		t.Errorf("watch: %v", err)
	}
}

func (s *Store) watched() bool {
	s.watching.Lock()
	defer s.watching.Unlock()
	return s.sink != nil
}

func TestQueueAndItemAreBounded(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	granted(t, s, request("a", "holder"))
	var all sync.WaitGroup
	for i := range maxWaiters {
		all.Go(func() {
			if res, err := s.Acquire(t.Context(), request("a", "w"+time.Duration(i).String(), queued)); err != nil || res.Lease != nil {
				t.Errorf("waiter %d: %+v, %v", i, res, err)
			}
		})
	}
	all.Wait()
	if _, err := s.Acquire(t.Context(), request("a", "one too many", queued)); !errors.Is(err, driver.ErrLimit) {
		t.Errorf("waiter %d: %v", maxWaiters+1, err)
	}
	// Readers with much to say fill an item before it is refused by the store.
	metadata := map[string]string{"note": strings.Repeat("x", 4000)}
	for i := 0; ; i++ {
		_, err := s.Acquire(t.Context(), request("b", "r"+time.Duration(i).String(), shared, func(r *driver.AcquireRequest) { r.Metadata = metadata }))
		if errors.Is(err, driver.ErrLimit) && i > 50 {
			break
		}
		if err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
	}
}

// A full item is the limit of those that would make it grow, also where part of it
// is the queue, and of nobody who is decided together with them.
func TestAFullItemKeepsNobodyIn(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	wordy := func(r *driver.AcquireRequest) {
		r.Shared, r.Metadata = true, map[string]string{"note": strings.Repeat("x", 4000)}
	}
	r := &record{id: "a"}
	for i := range maxWaiters / 2 { // dead ones of another driver, about 30 KB
		name := "w" + time.Duration(i).String()
		r.waiters = append(r.waiters, &waiter{owner: name, request: name, ticket: int64(i + 1), shared: true, key: driver.KeyOf(name), driver: "other", ttl: time.Hour})
	}
	for {
		h := s.lease(request("a", "r"+time.Duration(r.last).String(), wordy), r.last+1)
		if r.full(sizeOf(h.encode())) {
			break
		}
		r.last, r.holders = h.token, append(r.holders, h)
	}
	item := r.item(1)
	item["k"] = text(s.recordKey("a"))
	put(t, s, item)
	inOneTurn(t, s, "a", func() {
		if _, err := s.Acquire(t.Context(), request("a", "one too many", wordy, queued)); !errors.Is(err, driver.ErrLimit) {
			t.Errorf("acquire: %v, want the limit", err)
		}
	}, func() {
		if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "late"}); err != nil {
			t.Errorf("leave: %v", err)
		}
	}, func() {
		ref := driver.LeaseRef{LockID: "a", Key: r.holders[0].key, Token: r.holders[0].token}
		if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref}); err != nil {
			t.Errorf("release: %v", err)
		}
	})
}
