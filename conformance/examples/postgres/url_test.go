package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance/examples/postgres"
)

// A driver is opened by its URL once its schemes are registered. The server need
// not be there yet.
func ExampleOpenURL() {
	var stores backend.Mux
	stores.Register(postgres.Schemes, postgres.OpenURL)

	d, err := stores.Open(context.Background(), "postgres://app@127.0.0.1:1/locks?prefix=orders&poll=1s", driver.Env{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = d.Close() }()
	fmt.Println(d.Capabilities().Name, d.Capabilities().Poll)
	fmt.Println(errors.Is(d.Ping(context.Background()), driver.ErrUnavailable))
	// Output:
	// postgres 1s
	// true
}

func TestURLsThatAreRefusedKeepTheirPassword(t *testing.T) {
	for _, c := range []struct{ url, says string }{
		{"postgres://app:hunter2@db/locks?prefx=a", `unknown parameter "prefx"; known are host, passfile, poll, pool_max_conns, prefix, sslcert`},
		{"postgres://app:hunter2@db/locks?timeout=-1s", "timeout"},
		{"postgres://app:hunter2@db/locks?prefix=Bobby%27", "Options.Table"},
		{"postgres://app:hunter2@db/locks?sslmode=perhaps", "sslmode"},
		{"postgres://app:hunter2@db/locks?pool_max_conns=many", "pool_max_conns"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = postgres.OpenURL(t.Context(), u, driver.Env{})
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(fmt.Sprint(err), c.says) || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %v; want it invalid for %q, without the password", c.url, err, c.says)
		}
	}
}
