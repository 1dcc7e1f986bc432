package testenv

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// DynamoFault is what a DynamoProxy does to a request.
type DynamoFault int

// The faults.
const (
	// DynamoPass: nothing.
	DynamoPass DynamoFault = iota
	// DynamoDropReply: the request is done, and the connection closed instead of an
	// answer.
	DynamoDropReply
	// DynamoDropRequest: the request is not done, the connection closed.
	DynamoDropRequest
	// DynamoThrottle: the request is not done, the answer that of a table without
	// capacity.
	DynamoThrottle
	// DynamoBreak: the request is done, the answer that of a server that failed.
	DynamoBreak
	// DynamoTwice: the request is done twice, the answer is the first one's.
	DynamoTwice
)

// DynamoProxy stands before an emulator and meets single requests.
type DynamoProxy struct {
	server *httptest.Server
	target string

	mu     sync.Mutex
	faults func(operation string, body []byte) DynamoFault
	seen   []string
}

// StartDynamoProxy starts a proxy to an emulator for the length of a test.
func StartDynamoProxy(t testing.TB, e *Dynamo) *DynamoProxy {
	t.Helper()
	p := &DynamoProxy{target: e.Endpoint()}
	p.server = httptest.NewServer(http.HandlerFunc(p.serve))
	t.Cleanup(p.server.Close)
	return p
}

// Endpoint is the proxy's URL.
func (p *DynamoProxy) Endpoint() string { return p.server.URL }

// Meet sets what is done to each request from now on, by its operation, such as
// UpdateItem, and its body; nil does nothing.
func (p *DynamoProxy) Meet(f func(operation string, body []byte) DynamoFault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
}

// Seen are the operations that came since the last call.
func (p *DynamoProxy) Seen() (operations []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	operations, p.seen = p.seen, nil
	return operations
}

func (p *DynamoProxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	p.mu.Lock()
	fault := DynamoPass
	if p.faults != nil {
		fault = p.faults(operation, body)
	}
	p.seen = append(p.seen, operation)
	p.mu.Unlock()
	switch fault {
	case DynamoThrottle:
		failWith(w, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException")
		return
	case DynamoDropRequest:
		panic(http.ErrAbortHandler)
	}
	answer, err := p.forward(r, body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer func() { _ = answer.Body.Close() }()
	switch fault {
	case DynamoDropReply:
		panic(http.ErrAbortHandler)
	case DynamoBreak:
		failWith(w, http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError")
		return
	case DynamoTwice:
		again, err := p.forward(r, body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_ = again.Body.Close()
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = io.Copy(w, answer.Body)
}

func failWith(w http.ResponseWriter, status int, kind string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"__type":"`+kind+`","message":"by the proxy"}`)
}

func (p *DynamoProxy) forward(r *http.Request, body []byte) (*http.Response, error) {
	again, err := http.NewRequestWithContext(r.Context(), r.Method, p.target+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	again.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(again)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(raw))
	return answer, err
}
