package redis

import (
	"bytes"
	"encoding/json"
	"errors"
	goflag "flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

var writeGolden = goflag.Bool("write-golden", false, "write the golden dump of the current format, with what the current scripts store")

const (
	goldenFile   = "testdata/format1.json"
	goldenPrefix = "golden"
	// goldenNow is when the golden records were made, by their own account: 2100,
	// so that their leases stand whenever the test is run.
	goldenNow = int64(4102444800000000)
)

// dumped is a key of the store.
type dumped struct {
	Key  string             `json:"key"`
	Hash map[string]string  `json:"hash,omitempty"`
	Zset map[string]float64 `json:"zset,omitempty"`
}

// goldenRequest is an acquire of the golden locks for a minute.
func goldenRequest(lock, name string, change ...func(*driver.AcquireRequest)) *driver.AcquireRequest {
	r := request(lock, name)
	for _, f := range change {
		f(r)
	}
	return r
}

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
	held := goldenRequest("held", "one", func(r *driver.AcquireRequest) { r.Metadata = map[string]string{"host": "a"} })
	l := granted(t, s, held)
	granted(t, s, goldenRequest("held", "two", func(r *driver.AcquireRequest) { r.OwnerID, r.Key, r.Reentrant = held.OwnerID, held.Key, true }))
	_, err := s.Adopt(ctx, &driver.RenewRequest{LeaseRef: refOf(held, l), TTL: time.Minute})
	must(err)

	granted(t, s, shared(goldenRequest("shared", "r1")))
	revoked := granted(t, s, shared(goldenRequest("shared", "r2")))
	_, err = s.Revoke(ctx, &driver.EvictRequest{LockID: "shared", Token: revoked.Token, Cause: driver.CauseForced})
	must(err)

	granted(t, s, goldenRequest("queued", "holder"))
	for i, name := range []string{"w1", "w2", "w3"} {
		_, err := s.Acquire(ctx, queued(goldenRequest("queued", name, func(r *driver.AcquireRequest) { r.Shared, r.Priority = i == 1, i/2 })))
		must(err)
	}

	idle := goldenRequest("idle", "done")
	release(t, s, idle, granted(t, s, idle))
	must(s.Leave(ctx, &driver.LeaveRequest{LockID: "idle", RequestID: "left", Key: driver.KeyOf("left")}))

	forced := granted(t, s, goldenRequest("forced", "victim"))
	_, err = s.Evict(ctx, &driver.EvictRequest{LockID: "forced", Token: forced.Token, Cause: driver.CauseForced})
	must(err)
}

// dumpGolden writes every key of the golden prefix into the file, its times moved
// to goldenNow. What is due by the index is so whenever it is restored.
func dumpGolden(t *testing.T, server *testenv.Redis) {
	t.Helper()
	c := server.Client()
	defer func() { _ = c.Close() }()
	now, err := c.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	delta := goldenNow - now.UnixMicro()
	near := func(n int64) bool { return n > now.Add(-time.Hour).UnixMicro() && n < now.Add(time.Hour).UnixMicro() }
	move := func(text string) string {
		return regexp.MustCompile(`\d+`).ReplaceAllStringFunc(text, func(digits string) string {
			var moved strings.Builder
			for ; len(digits) >= 16; digits = digits[16:] { // ends have two times in a row
				if n := integer(digits[:16]); near(n) {
					moved.WriteString(strconv.FormatInt(n+delta, 10))
				} else {
					moved.WriteString(digits[:16])
				}
			}
			return moved.String() + digits
		})
	}
	var all []dumped
	for _, key := range slices.Sorted(slices.Values(c.Keys(t.Context(), goldenPrefix+":*").Val())) {
		d := dumped{Key: key}
		switch kind := c.Type(t.Context(), key).Val(); kind {
		case "hash":
			d.Hash = c.HGetAll(t.Context(), key).Val()
			for field, value := range d.Hash {
				d.Hash[field] = move(value)
			}
		case "zset":
			d.Zset = make(map[string]float64)
			for _, z := range c.ZRangeWithScores(t.Context(), key, 0, -1).Val() {
				if n := int64(z.Score); near(n) {
					z.Score = float64(n + delta)
				}
				d.Zset[move(z.Member.(string))] = z.Score
			}
		default:
			t.Fatalf("the key %s is a %s", key, kind)
		}
		all = append(all, d)
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	if err := errors.Join(e.Encode(all), os.MkdirAll("testdata", 0o750), os.WriteFile(goldenFile, out.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// restored is a server with the golden keys, and a driver on it.
func restored(t *testing.T) (*Store, *redis.Client) {
	t.Helper()
	raw, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []dumped
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	server := testenv.StartRedisT(t)
	c := server.Client()
	t.Cleanup(func() { _ = c.Close() })
	now, err := c.Time(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if d.Hash != nil {
			err = c.HSet(t.Context(), d.Key, d.Hash).Err()
		}
		for member, score := range d.Zset {
			if strings.HasSuffix(d.Key, ":i") {
				score = 1 + float64(now.UnixMicro()) // due, and not yet given up
			}
			err = errors.Join(err, c.ZAdd(t.Context(), d.Key, redis.Z{Score: score, Member: member}).Err())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openOn(t, server, goldenPrefix), c
}

// goldenToken is the token of the golden lease of a request, which differs from
// dump to dump.
func goldenToken(t *testing.T, s *Store, lock string, holder int) int64 {
	t.Helper()
	l, err := s.Inspect(t.Context(), lock)
	if err != nil || len(l.Holders) <= holder {
		t.Fatalf("the lock %s is %+v, %v", lock, l, err)
	}
	return l.Holders[holder].Token
}

// Records of format 1, which an earlier version may have written, are read, and
// their locks go on.
func TestGoldenRecordsGoOn(t *testing.T) {
	if *writeGolden {
		server := testenv.StartRedisT(t)
		makeGolden(t, openOn(t, server, goldenPrefix))
		dumpGolden(t, server)
	}
	ref := func(lock, name string, token, attach int64) driver.LeaseRef {
		return driver.LeaseRef{LockID: lock, Key: driver.KeyOf(name), Token: token, Attach: attach}
	}
	s, _ := restored(t)
	ctx := t.Context()
	t.Run("held", func(t *testing.T) {
		l, err := s.Inspect(ctx, "held")
		if err != nil || len(l.Holders) != 1 || l.Holders[0].HoldCount != 2 || l.Holders[0].Attach != 2 || l.Holders[0].Metadata["host"] != "a" || l.Holders[0].TTL != time.Minute {
			t.Fatalf("the lock is %+v, %v", l, err)
		}
		token := l.Token
		if _, err := s.Acquire(ctx, request("held", "rival")); !errors.Is(err, driver.ErrHeld) {
			t.Errorf("a rival: %v", err)
		}
		if _, err := s.Renew(ctx, &driver.RenewRequest{LeaseRef: ref("held", "one", token, 1), TTL: time.Minute}); causeOf(err) != driver.CauseReattached {
			t.Errorf("the older attachment: %v", err)
		}
		if _, err := s.Renew(ctx, &driver.RenewRequest{LeaseRef: ref("held", "one", token, 2), TTL: time.Minute}); err != nil {
			t.Errorf("renewal: %v", err)
		}
		for _, hold := range []string{"one", "two"} {
			if _, err := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref("held", "one", token, 2), RequestID: hold}); err != nil {
				t.Errorf("release of %s: %v", hold, err)
			}
		}
		if next := granted(t, s, request("held", "next")); next.Token <= token {
			t.Errorf("token %d after %d", next.Token, token)
		}
	})
	t.Run("shared", func(t *testing.T) {
		first, revoked := goldenToken(t, s, "shared", 0), goldenToken(t, s, "shared", 1)
		if _, err := s.Renew(ctx, &driver.RenewRequest{LeaseRef: ref("shared", "r1", first, 1), TTL: time.Minute}); err != nil {
			t.Errorf("renewal: %v", err)
		}
		if _, err := s.Renew(ctx, &driver.RenewRequest{LeaseRef: ref("shared", "r2", revoked, 1), TTL: time.Minute}); causeOf(err) != driver.CauseForced {
			t.Errorf("renewal of the revoked one: %v", err)
		}
		if l := granted(t, s, shared(request("shared", "r3"))); l.Token <= revoked {
			t.Errorf("token %d after %d", l.Token, revoked)
		}
	})
	t.Run("queued", func(t *testing.T) {
		l, err := s.Inspect(ctx, "queued")
		if err != nil {
			t.Fatal(err)
		}
		var order []string
		for _, w := range l.Waiters {
			order = append(order, w.RequestID)
		}
		if want := []string{"w3", "w1", "w2"}; !slices.Equal(order, want) || !l.Waiters[2].Shared {
			t.Errorf("the queue is %+v, want %v", l.Waiters, want)
		}
		holder := request("queued", "holder")
		release(t, s, holder, &driver.Lease{Token: l.Token})
		if res, err := s.Acquire(ctx, queued(request("queued", "w1"))); err != nil || res.Lease != nil || res.Position != 2 {
			t.Errorf("the second: %+v, %v", res, err)
		}
		if next := granted(t, s, goldenRequest("queued", "w3", func(r *driver.AcquireRequest) { r.Enqueue, r.Priority = true, 1 })); next.Token <= l.Token {
			t.Errorf("token %d after %d", next.Token, l.Token)
		}
	})
	t.Run("idle", func(t *testing.T) {
		l, err := s.Inspect(ctx, "idle")
		if err != nil || l.Token < goldenNow-time.Hour.Microseconds() || len(l.Holders) != 0 {
			t.Fatalf("the lock is %+v, %v", l, err)
		}
		done := request("idle", "done")
		release(t, s, done, &driver.Lease{Token: l.Token}) // a repeat
		for _, ended := range []string{"done", "left"} {
			if _, err := s.Acquire(ctx, request("idle", ended)); causeOf(err) != driver.CauseReleased {
				t.Errorf("an acquire of %s, which ended: %v", ended, err)
			}
		}
		if next := granted(t, s, request("idle", "next")); next.Token != l.Token+1 {
			t.Errorf("token %d after %d, which is ahead of the clock", next.Token, l.Token)
		}
	})
	t.Run("forced", func(t *testing.T) {
		var ended []driver.Ended
		until(t, "the end that nobody told is reported", func() bool {
			found, err := s.Sweep(ctx)
			if err != nil {
				t.Fatal(err)
			}
			ended = append(ended, found...)
			return len(ended) > 0
		})
		if e := ended[0]; len(ended) != 1 || e.LockID != "forced" || e.OwnerID != "owner-victim" || e.Cause != driver.CauseForced {
			t.Errorf("reported %+v", ended)
		}
	})
}

// A record of a newer major format is refused by its name, by every call, and is
// not touched.
func TestANewerFormatIsRefusedByName(t *testing.T) {
	s, c := restored(t)
	ctx := t.Context()
	token := goldenToken(t, s, "held", 0)
	key := s.shardPrefix(shardOf("held")) + "l:held"
	if err := c.HSet(ctx, key, "f", "2").Err(); err != nil {
		t.Fatal(err)
	}
	before := c.HGetAll(ctx, key).Val()
	ref := driver.LeaseRef{LockID: "held", Key: driver.KeyOf("one"), Token: token}
	_, acquire := s.Acquire(ctx, request("held", "new"))
	_, place := s.Acquire(ctx, queued(request("held", "place")))
	_, renew := s.Renew(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
	_, adopt := s.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
	_, release := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref, RequestID: "one"})
	_, evict := s.Evict(ctx, &driver.EvictRequest{LockID: "held", Token: token, Cause: driver.CauseForced})
	_, revoke := s.Revoke(ctx, &driver.EvictRequest{LockID: "held", Token: token, Cause: driver.CauseForced})
	_, inspect := s.Inspect(ctx, "held")
	_, list := s.List(ctx, &driver.ListRequest{PageSize: 10})
	for name, err := range map[string]error{
		"acquire": acquire, "acquire with a place": place, "renew": renew, "adopt": adopt, "release": release, "evict": evict, "revoke": revoke,
		"leave":   s.Leave(ctx, &driver.LeaveRequest{LockID: "held", RequestID: "one"}),
		"inspect": inspect, "list": list, "renew many": s.RenewMany(ctx, []driver.RenewRequest{{LeaseRef: ref, TTL: time.Minute}})[0].Err,
	} {
		if !errors.Is(err, driver.ErrFormat) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "reads format 1") {
			t.Errorf("%s: %v, want format 2 refused by name", name, err)
		}
	}
	if after := c.HGetAll(ctx, key).Val(); !maps.Equal(before, after) {
		t.Errorf("the record was %q, is %q", before, after)
	}
	// The other locks go on.
	granted(t, s, request("idle", "next"))
}
