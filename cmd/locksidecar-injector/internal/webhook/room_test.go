package webhook

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// held are requests whose bodies are on their way: each has sent some, and ends when
// it is told to.
type held struct {
	t       *testing.T
	h       *Handler
	end     []func()
	answers chan int
}

// post begins a request with the first part of a body, in a goroutine of its own.
func (x *held) post(ctx context.Context, first string) {
	in, out := io.Pipe()
	x.end = append(x.end, func() { _ = out.Close() })
	go func() {
		w := httptest.NewRecorder()
		x.h.ServeHTTP(w, httptest.NewRequest("POST", Path, io.MultiReader(strings.NewReader(first), in)).WithContext(ctx))
		_ = in.Close()
		x.answers <- w.Code
	}()
}

// answered are the answers so far, of all requests that can go on.
func (x *held) answered() (codes []int) {
	synctest.Wait()
	for {
		select {
		case c := <-x.answers:
			codes = append(codes, c)
		default:
			return codes
		}
	}
}

// full runs f with a handler that answers n requests, whose bodies begin so.
func full(t *testing.T, n int, first string, f func(x *held, told *told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, told := handler(t)
		x := &held{t: t, h: h, answers: make(chan int, 2*n+2)}
		for range n {
			x.post(t.Context(), first)
		}
		if codes := x.answered(); len(codes) != 0 {
			t.Fatalf("answered %v", codes)
		}
		f(x, told)
		for _, end := range x.end {
			end()
		}
		x.answered()
	})
}

// More reviews than there is room for wait until one has ended, or are told to come
// again; so do large ones, which do not keep small ones out.
func TestReviewsWaitForRoom(t *testing.T) {
	for name, row := range map[string]struct {
		n     int
		first string
	}{
		"many":       {atOnce, " "},
		"large ones": {largeAtOnce, strings.Repeat(" ", small)},
	} {
		t.Run(name, func(t *testing.T) {
			full(t, row.n, row.first, func(x *held, told *told) {
				x.post(x.t.Context(), row.first)
				ctx, cancel := context.WithCancel(x.t.Context())
				x.post(ctx, row.first)
				cancel()
				if codes := x.answered(); len(codes) != 1 || codes[0] != http.StatusServiceUnavailable || told.results[0] != "error busy" {
					t.Fatalf("one who left was answered %v; counted %q", codes, told.results)
				}
				x.end[0]()
				x.end[row.n]() // the one that waited goes on, and has no more to say
				if codes := x.answered(); len(codes) != 2 || codes[0] != http.StatusBadRequest || codes[1] != http.StatusBadRequest {
					t.Fatalf("answered %v", codes)
				}
				x.post(x.t.Context(), row.first)
				x.post(x.t.Context(), row.first)
				time.Sleep(patience)
				if codes := x.answered(); len(codes) != 1 || codes[0] != http.StatusServiceUnavailable {
					t.Fatalf("one who waited was answered %v", codes)
				}
			})
		})
	}
	full(t, largeAtOnce, strings.Repeat(" ", small), func(x *held, _ *told) {
		if r := ask(t, x.h, review(wanting, "")); !r.Allowed || r.Patch == nil {
			t.Errorf("a small one beside large ones is answered %+v", r)
		}
	})
}

// A large review is read as a whole.
func TestALargeReview(t *testing.T) {
	h, _ := handler(t)
	if r := ask(t, h, review(strings.Replace(wanting, `"a":"b"`, `"a":"`+strings.Repeat("b", 3*small)+`"`, 1), "")); !r.Allowed || r.Patch == nil {
		t.Errorf("answered %+v", r)
	}
}

// Some bytes of JSON may become much more memory: a review of many elements is large,
// and one of too many is not even decoded.
func TestManyElements(t *testing.T) {
	pod := func(n int) string {
		return strings.Replace(wanting, `"containers":[`, `"containers":[`+strings.Repeat("{},", n), 1)
	}
	h, x := handler(t)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("POST", Path, strings.NewReader(review(pod(maxElements), ""))))
	if w.Code != http.StatusRequestEntityTooLarge || len(x.results) != 1 || x.results[0] != "error request" {
		t.Errorf("answered %d, counted %q", w.Code, x.results)
	}
	if r := ask(t, h, review(pod(smallElements), "")); !r.Allowed || r.Patch == nil {
		t.Errorf("a large one is answered %+v", r)
	}
	synctest.Test(t, func(t *testing.T) {
		h, x := handler(t)
		for range largeAtOnce {
			h.large <- struct{}{}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", Path, strings.NewReader(review(pod(smallElements), ""))).WithContext(t.Context()))
		if w.Code != http.StatusServiceUnavailable || x.results[0] != "error busy" {
			t.Errorf("beside large ones it is answered %d", w.Code)
		}
		if r := ask(t, h, review(wanting, "")); !r.Allowed {
			t.Errorf("a small one is answered %+v", r)
		}
	})
	for text, n := range map[string]int{
		``: 0, `[1,2,"3"]`: 2, `{"a,b":"c,"}`: 0, `{"a":"\"","b":1}`: 1, `"\",`: 0, `"\\",`: 1, `"`: 0, `"\`: 0,
	} {
		if got := elements([]byte(text)); got != n {
			t.Errorf("%s has %d elements, want %d", text, got, n)
		}
	}
}
