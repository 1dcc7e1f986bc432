package events

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sink remembers what it was told.
type sink struct {
	mu     sync.Mutex
	calls  []string
	last   *corev1.Event
	exists bool
	gone   bool
	err    error
}

func (s *sink) CreateEvent(_ context.Context, e *corev1.Event) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.last = append(s.calls, "create"), e
	return s.exists, s.err
}

func (s *sink) RepeatEvent(_ context.Context, e *corev1.Event) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.last = append(s.calls, "repeat"), e
	return s.gone, s.err
}

func (s *sink) did() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.calls, " ")
}

func pod(controlled bool) *corev1.Pod {
	p := &corev1.Pod{}
	if controlled {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-1", UID: "u", Controller: &yes}}
	}
	return p
}

// recording runs f with a recorder, in a time of its own.
func recording(t *testing.T, s *sink, f func(r *Recorder, dropped *int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		dropped := 0
		r := New(Options{Sink: s, Instance: "me", Dropped: func() { dropped++ }, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		go r.Run(ctx)
		f(r, &dropped)
		cancel()
		synctest.Wait()
	})
}

func TestAnEventIsOnTheController(t *testing.T) {
	s := &sink{}
	recording(t, s, func(r *Recorder, _ *int) {
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		o := s.last.InvolvedObject
		if o.Kind != "ReplicaSet" || o.Name != "web-1" || o.Namespace != "shop" || o.UID != "u" || s.last.Namespace != "shop" || s.last.Reason != Refused || s.last.Count != 1 {
			t.Errorf("it is %+v", s.last)
		}
	})
}

func TestWithoutAControllerItIsOnTheNamespace(t *testing.T) {
	s := &sink{}
	recording(t, s, func(r *Recorder, _ *int) {
		r.Record("shop", pod(false), corev1.EventTypeWarning, Refused, strings.Repeat("x", 5000))
		synctest.Wait()
		if o := s.last.InvolvedObject; o.Kind != "Namespace" || o.Name != "shop" || o.Namespace != "shop" || len(s.last.Message) != 1024 {
			t.Errorf("it is %+v", s.last)
		}
		r.Record("shop", pod(false), corev1.EventTypeNormal, Injected, "pods get it")
		synctest.Wait()
		if s.did() != "create" {
			t.Error("an injected pod without a controller has an event, besides its own annotation")
		}
	})
}

// A controller that tries again and again writes one event, and counts it.
func TestRepetitionsAreCounted(t *testing.T) {
	s := &sink{}
	recording(t, s, func(r *Recorder, _ *int) {
		for range 100 {
			r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
			synctest.Wait()
		}
		if s.did() != "create" {
			t.Errorf("it did %s", s.did())
		}
		time.Sleep(again)
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		if s.did() != "create repeat" || s.last.Count != 101 {
			t.Errorf("it did %s, and counted %d", s.did(), s.last.Count)
		}
		s.gone = true
		time.Sleep(again)
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		if s.did() != "create repeat repeat create" {
			t.Errorf("an event that was collected: it did %s", s.did())
		}
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "another reason")
		synctest.Wait()
		if s.did() != "create repeat repeat create create" {
			t.Errorf("another event: it did %s", s.did())
		}
	})
}

// Two replicas do not count in one event, in which the count would go back and forth;
// one replica does, also after its container was restarted.
func TestEachReplicaHasItsOwnEvent(t *testing.T) {
	named := func(instance string) (name string) {
		s := &sink{}
		r := New(Options{Sink: s, Instance: instance, Logger: slog.New(slog.DiscardHandler)})
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		if err := r.write(t.Context(), <-r.in); err != nil {
			t.Fatal(err)
		}
		return s.last.Name
	}
	if a, b := named("injector-a"), named("injector-b"); a == b || a != named("injector-a") {
		t.Errorf("the events are %s and %s", a, b)
	}
}

func TestAnEventOfTheLifeBeforeIsCountedUp(t *testing.T) {
	s := &sink{exists: true}
	recording(t, s, func(r *Recorder, _ *int) {
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		if s.did() != "create repeat" {
			t.Errorf("it did %s", s.did())
		}
	})
}

// A name of no namespace, and of no object, is written nowhere.
func TestWhatIsNoNameIsDropped(t *testing.T) {
	s := &sink{}
	recording(t, s, func(r *Recorder, dropped *int) {
		for _, namespace := range []string{"", "../../secrets", "shop/pods", "a.b", "Shop", "shop?x=y"} {
			r.Record(namespace, pod(true), corev1.EventTypeWarning, Refused, "because")
		}
		p := pod(true)
		p.OwnerReferences[0].Name = "web 1\n"
		r.Record("shop", p, corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		if s.did() != "" || *dropped != 7 {
			t.Errorf("it did %q, and dropped %d", s.did(), *dropped)
		}
	})
}

// Nobody waits for an event.
func TestWhatCannotBeWrittenIsDroppedAndCounted(t *testing.T) {
	s := &sink{err: errors.New("no")}
	recording(t, s, func(r *Recorder, dropped *int) {
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
		synctest.Wait()
		if *dropped != 1 {
			t.Errorf("%d were counted", *dropped)
		}
	})
	n := 0
	r := New(Options{Sink: s, Dropped: func() { n++ }, Logger: slog.New(slog.DiscardHandler)})
	for range queue + 5 {
		r.Record("shop", pod(true), corev1.EventTypeWarning, Refused, "because")
	}
	if n != 5 {
		t.Errorf("%d were dropped of a full queue, want 5", n)
	}
}
