package app

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
)

// READY is sent when the socket has answered, and not before; the watchdog goes
// on as long as it does.
func TestReadyOnceTheSocketAnswers(t *testing.T) {
	dir, err := os.MkdirTemp("", "lsapp") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	t.Setenv("WATCHDOG_USEC", "20000")
	n, err := sdnotify.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}

	// A server that refuses at first.
	l, err := net.Listen("unix", filepath.Join(dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	var asked, answered atomic.Int64
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if asked.Add(1) <= 3 {
			panic(http.ErrAbortHandler)
		}
		answered.Add(1)
	})}
	go func() { _ = server.Serve(l) }()
	defer func() { _ = server.Close() }()

	d := &daemon{o: Options{Config: &config.Config{Socket: l.Addr().String()}, Notifier: n, Logger: slog.New(slog.DiscardHandler)}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.notify(ctx) }()
	read := func() string {
		t.Helper()
		if err := manager.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		size, err := manager.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:size])
	}
	if got := read(); got != sdnotify.Ready || answered.Load() == 0 {
		t.Errorf("the first message is %q, after %d answers", got, answered.Load())
	}
	for range 3 {
		if got := read(); got != sdnotify.Watchdog {
			t.Errorf("a further message is %q", got)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
