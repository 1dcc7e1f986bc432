//go:build cluster

package node

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// director tells applications what to do, and hears what came of it. It also keeps
// the counter that applications add to: a resource that a lock protects.
type director struct {
	url string

	mu    sync.Mutex
	pods  map[string]*application
	count counter
}

// counter is read and written by whoever comes.
type counter struct {
	value, writes int
	token         int64 // the highest that wrote
	late          int   // writes by a token below it
	writers       map[string]int
}

// application is what is known of one pod's.
type application struct {
	said []said
	next chan string
}

// said is what an application tells: internal/kubetest/app.
type said struct {
	What, Error, Lease, Value string
	Token                     int64
}

// direct starts a director on the node's address, for a test.
func direct(t *testing.T) *director {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(kube.NodeAddress, "0"))
	if err != nil {
		t.Fatal(err)
	}
	d := &director{url: "http://" + l.Addr().String(), pods: make(map[string]*application)}
	d.count.writers = make(map[string]int)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /said", d.hear)
	mux.HandleFunc("GET /next", d.tell)
	mux.HandleFunc("GET /counter", d.read)
	mux.HandleFunc("PUT /counter", d.write)
	server := &http.Server{Handler: mux}
	go func() { _ = server.Serve(l) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
	return d
}

func (d *director) application(pod string) *application {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.pods[pod]
	if a == nil {
		a = &application{next: make(chan string, 1)}
		d.pods[pod] = a
	}
	return a
}

func (d *director) hear(w http.ResponseWriter, r *http.Request) {
	a := d.application(r.FormValue("pod"))
	var s said
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	a.said = append(a.said, s)
}

func (d *director) tell(w http.ResponseWriter, r *http.Request) {
	select {
	case instruction := <-d.application(r.FormValue("pod")).next:
		_, _ = io.WriteString(w, instruction)
	case <-r.Context().Done():
	}
}

func (d *director) read(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprint(w, d.count.value)
}

func (d *director) write(w http.ResponseWriter, r *http.Request) {
	value, err := strconv.Atoi(r.FormValue("value"))
	token, err2 := strconv.ParseInt(r.FormValue("token"), 10, 64)
	if err != nil || err2 != nil {
		http.Error(w, "want a value and a token", http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if token < d.count.token {
		d.count.late++
	}
	d.count.token = max(d.count.token, token)
	d.count.value = value
	d.count.writes++
	d.count.writers[r.FormValue("pod")]++
}

// counted is the counter as it is now.
func (d *director) counted() counter {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.count
	c.writers = make(map[string]int)
	for pod, n := range d.count.writers {
		c.writers[pod] = n
	}
	return c
}

// await waits until a pod's application has said something about what, and takes
// that away.
func (d *director) await(t *testing.T, pod, what string) (found said) {
	t.Helper()
	a := d.application(pod)
	cluster.Eventually(t, pod+" says "+strconv.Quote(what), func() error {
		d.mu.Lock()
		defer d.mu.Unlock()
		for i, s := range a.said {
			if s.What == what {
				found = s
				a.said = append(a.said[:i:i], a.said[i+1:]...)
				return nil
			}
		}
		return fmt.Errorf("it said %+v", a.said)
	})
	return found
}

// do lets a pod's application do something, which must go well.
func (d *director) do(t *testing.T, pod, instruction string) said {
	t.Helper()
	s := d.try(t, pod, instruction)
	if s.Error != "" {
		t.Fatalf("%s: %s: %s", pod, instruction, s.Error)
	}
	return s
}

// try is do of what may go wrong.
func (d *director) try(t *testing.T, pod, instruction string) said {
	t.Helper()
	d.application(pod).next <- instruction
	return d.await(t, pod, instruction)
}
