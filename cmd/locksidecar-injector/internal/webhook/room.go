package webhook

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// What reviews may take at a time. A pod is some kilobytes: the many are small, and
// of the few large ones each takes a multiple of its size while it is answered. By
// these numbers that stays within 128 MiB.
const (
	atOnce      = 32
	largeAtOnce = 2
	// small bounds a review that is not large, in bytes.
	small = 256 << 10
	// patience is how long a request waits for its turn: as long as the API server does
	// by the chart's timeoutSeconds.
	patience = 5 * time.Second
)

// errBusy is a request whose turn did not come.
var errBusy = errors.New("too many reviews at a time")

// room is for a number of reviews.
type room chan struct{}

// enter waits for a place, and returns what gives it back.
func (r room) enter(ctx context.Context) (leave func(), err error) {
	select {
	case r <- struct{}{}:
		return func() { <-r }, nil
	case <-ctx.Done():
		return nil, errBusy
	}
}

// read reads a request's body once there is room for it, which leave gives back; it
// is never nil. The request's context bounds the wait.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (raw []byte, leave func(), err error) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	leave = func() {}
	one, err := h.reviews.enter(ctx)
	if err != nil {
		return nil, leave, err
	}
	leave = one
	body := http.MaxBytesReader(w, r.Body, MaxBody)
	raw, err = io.ReadAll(io.LimitReader(body, small))
	if err != nil || len(raw) < small {
		return raw, leave, err
	}
	large, err := h.large.enter(ctx)
	if err != nil {
		return nil, leave, err
	}
	leave = func() { large(); one() }
	rest, err := io.ReadAll(body)
	return append(raw, rest...), leave, err
}
