package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

// A sidecar in a few lines: a driver, the portable store, the keeper of leases,
// and the server on its socket.
func Example() {
	dir, err := os.MkdirTemp("", "ls")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		panic(err)
	}
	store := backend.New(d, backend.Options{})
	keeper := renew.New(store, renew.Options{})
	server := socket.New(socket.Options{Locks: store, Sessions: socket.Kept(keeper)})
	l, err := socket.Listen(filepath.Join(dir, "api.sock"), 0o660)
	if err != nil {
		panic(err)
	}
	served := make(chan error)
	go func() { served <- server.Serve(l) }()

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.Addr().String())
	}}}
	resp, err := client.Get("http://localhost/locks/user:42")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	fmt.Printf("%s", body)

	_ = server.Shutdown(context.Background())
	_ = keeper.Close(context.Background())
	_ = store.Close()
	fmt.Println(errors.Is(<-served, socket.ErrServerClosed))
	// Output:
	// {"lock_id":"user:42","fencing_token":"0","holders":[],"waiters":[],"backend":"embedded"}
	// true
}
