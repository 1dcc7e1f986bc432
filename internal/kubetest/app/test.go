package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// test is the test that directs the application.
type test struct {
	url, pod string
}

// said is what the application tells.
type said struct {
	What  string `json:"what"`  // the instruction, or an event
	Error string `json:"error"` // empty: it went well
	Token int64  `json:"token,omitempty"`
	Lease string `json:"lease,omitempty"`
	Value string `json:"value,omitempty"`
}

// say tells the test; one that cannot be told ends the application.
func (t *test) say(s said) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = t.ask(context.Background(), http.MethodPost, "/said?"+url.Values{"pod": {t.pod}}.Encode(), raw)
	return err
}

// next waits for the next instruction.
func (t *test) next(ctx context.Context) (string, error) {
	return t.ask(ctx, http.MethodGet, "/next?"+url.Values{"pod": {t.pod}}.Encode(), nil)
}

// ask is one request. The test waits as long as it likes with its answer.
func (t *test) ask(ctx context.Context, method, path string, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, t.url+path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, res.Status, raw)
	}
	return string(raw), err
}
