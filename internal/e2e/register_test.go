package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
)

// register is a resource that checks tokens: it keeps the highest token that
// wrote, with the value, and refuses a lower one.
type register struct {
	mu    sync.Mutex
	token int64
	value string
}

func startRegister(t *testing.T) (*register, string) {
	t.Helper()
	r := &register{}
	s := httptest.NewServer(r)
	t.Cleanup(s.Close)
	return r, s.URL
}

func (r *register) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var write struct {
		Token string `json:"token"`
		Value string `json:"value"`
	}
	if err := json.NewDecoder(req.Body).Decode(&write); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	token, err := strconv.ParseInt(write.Token, 10, 64)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if token < r.token {
		w.WriteHeader(http.StatusPreconditionFailed)
		return
	}
	r.token, r.value = token, write.Value
}

func (r *register) read() (int64, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token, r.value
}
