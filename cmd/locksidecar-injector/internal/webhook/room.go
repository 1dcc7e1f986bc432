package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// What reviews may take at a time. A pod is some kilobytes and some hundred elements:
// the many are small, and of the few large ones each takes a multiple of its size
// while it is answered. By these numbers that stays below the 256 MiB of the chart,
// also if all are made to take as much as they can.
const (
	atOnce      = 32
	largeAtOnce = 2
	// small and smallElements bound a review that is not large, in bytes and elements.
	small         = 256 << 10
	smallElements = 1000
	// maxElements bounds those of any. An element of three bytes may become a container,
	// which takes several hundred, and several times.
	maxElements = 10_000
	// patience is how long a request waits for its turn: as long as the API server does
	// by the chart's timeoutSeconds.
	patience = 5 * time.Second
)

// errBusy is a request whose turn did not come.
var errBusy = errors.New("too many reviews at a time")

// errElements is a review that would take too much although its bytes are few.
var errElements = fmt.Errorf("the review has more than %d elements", maxElements)

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
	if err != nil || len(raw) < small && elements(raw) <= smallElements {
		return raw, leave, err
	}
	large, err := h.large.enter(ctx)
	if err != nil {
		return nil, leave, err
	}
	leave = func() { large(); one() }
	rest, err := io.ReadAll(body)
	raw = append(raw, rest...)
	if err == nil && elements(raw) > maxElements {
		err = errElements
	}
	return raw, leave, err
}

// elements counts the commas of a JSON text outside of its strings: nothing in it has
// more members than that, and one.
func elements(raw []byte) (n int) {
	quoted := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			n++
		}
	}
	return n
}
