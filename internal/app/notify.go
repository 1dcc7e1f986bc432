package app

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
)

const (
	// answerTimeout bounds how long the own socket may take to answer.
	answerTimeout = 5 * time.Second
	// answerPause is between two attempts to reach it at the start.
	answerPause = 20 * time.Millisecond
)

// notify tells the service manager that the daemon is ready once the socket
// answers, and, for a watchdog, that it still does, until ctx ends. A backend
// that is down is no reason for a restart: the socket answers then, too.
func (d *daemon) notify(ctx context.Context) error {
	n := d.o.Notifier
	for !d.answers(ctx) {
		select {
		case <-time.After(answerPause):
		case <-ctx.Done():
			return nil
		}
	}
	d.tell(sdnotify.Ready)
	if n.Watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	t := time.NewTicker(n.Watchdog / 2)
	defer t.Stop()
	for {
		if d.answers(ctx) {
			d.tell(sdnotify.Watchdog)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *daemon) tell(state string) {
	if err := d.o.Notifier.Send(state); err != nil {
		d.o.Logger.Warn("systemd is not told", driver.LogState, state, driver.LogError, err)
	}
}

// answers reports whether the own socket gives an answer, whichever.
func (d *daemon) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.o.Config.Socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/healthz", nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return true
}
