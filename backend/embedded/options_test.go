package embedded_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestOptionsAreRefusedByName(t *testing.T) {
	for name, o := range map[string]embedded.Options{
		"Options.MinTTL":    {MinTTL: -1},
		"Options.Poll":      {Poll: -time.Second},
		"Options.Retention": {Retention: -1},
	} {
		if _, err := embedded.New(o); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want it refused by name", name, err)
		}
	}
	if _, err := embedded.NewMemory(embedded.Options{MinTTL: time.Hour}); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a smallest TTL above the longest: %v", err)
	}
}

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want error
		says string
	}{
		{"embedded:", nil, ""},
		{"embedded:?poll=3s&prefix=x&timeout=1s", nil, ""},
		{"embedded:?poll=0s", driver.ErrInvalid, "parameter poll: "},
		{"embedded:?poll=soon", driver.ErrInvalid, "parameter poll: "},
		{"embedded:?pol=3s", driver.ErrInvalid, `"pol"; known are poll, prefix, timeout`},
		{"embedded:?timeout=0s", driver.ErrInvalid, "parameter timeout: "},
		{"embedded:?sync=none", driver.ErrInvalid, `"sync"; known are poll, prefix, timeout`},
		{"embedded:locks.db", driver.ErrInvalid, "embedded:///path/locks.db"},
		{"embedded://host", driver.ErrInvalid, "embedded:///path/locks.db"},
		{"embedded://host/locks.db", driver.ErrInvalid, "embedded:///path/locks.db"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		d, err := embedded.OpenURL(t.Context(), u, driver.Env{})
		if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v that says %q", c.url, err, c.want, c.says)
		}
		if c.url == "embedded:?poll=3s&prefix=x&timeout=1s" && d.Capabilities().Poll != 3*time.Second {
			t.Errorf("%s: poll interval %v", c.url, d.Capabilities().Poll)
		}
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Acquire(ctx, &driver.AcquireRequest{LockID: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("acquire: %v, want the context's error", err)
	}
	if l, err := d.Inspect(t.Context(), "a"); err != nil || len(l.Holders) != 0 {
		t.Errorf("the cancelled acquire left %+v, %v", l, err)
	}
}
