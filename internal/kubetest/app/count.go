package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// count adds to the test's counter under the lock until SIGTERM: it reads, adds
// one and writes, so that two that are inside at once lose an increment. What was
// begun is ended.
func count(ctx context.Context, t *test, lock string) error {
	c, err := client.Open("")
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := increment(c, t, lock); err != nil {
			return err
		}
	}
	return nil
}

func increment(c *client.Client, t *test, lock string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h, err := client.Take(ctx, c, &lockpb.AcquireRequest{LockId: lock, OwnerId: t.pod, Ttl: durationpb.New(ttl)}, nil)
	if err != nil {
		return err
	}
	defer h.Close()
	text, err := t.ask(ctx, http.MethodGet, "/counter", nil)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	q := url.Values{"pod": {t.pod}, "value": {strconv.Itoa(n + 1)}, "token": {fmt.Sprint(h.Lease().GetFencingToken())}}
	if _, err := t.ask(ctx, http.MethodPut, "/counter?"+q.Encode(), nil); err != nil {
		return err
	}
	return h.Release(ctx)
}
