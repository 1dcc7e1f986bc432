package dynamodb

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// sdkBody is a request's body as the SDK gives it: once it is closed, which it is as
// soon as the answer has begun, asking for more of it is an error of the request.
type sdkBody struct {
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func (b *sdkBody) WriteTo(io.Writer) (int64, error) {
	<-b.closed
	return 0, io.EOF
}

func (b *sdkBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// A long answer is read to its end although the SDK closes the request's body as
// soon as the answer has begun.
func TestTheAnswerOutlivesTheRequestsBody(t *testing.T) {
	t.Parallel()
	const long = 16 << 20 // more than lies on the way
	body := &sdkBody{Reader: bytes.NewReader([]byte("{}")), closed: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-body.closed
		_, _ = w.Write(make([]byte, long))
	}))
	defer server.Close()
	w := newWire(nil, driver.BootClock)
	defer w.close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = 2
	answer, err := w.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	_ = body.Close()
	n, err := io.Copy(io.Discard, answer.Body)
	if err != nil || n != long {
		t.Errorf("%d bytes of the answer, %v", n, err)
	}
}
