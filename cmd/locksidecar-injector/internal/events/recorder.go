// Package events writes what the injector did as Events of Kubernetes, on the
// controller of a pod, or on the namespace of a pod that has none: the pod that was
// refused is not there to carry them.
//
// It guarantees that nobody waits for an event: what does not fit into the queue is
// dropped and counted. The same event is written once by each replica, and then
// counted up at most once a minute, however often it happens.
//
// It does not guarantee that an event arrives.
package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The reasons.
const (
	// Injected: a pod of this controller got its sidecar.
	Injected = "LocksidecarInjected"
	// Refused: a pod was refused.
	Refused = "LocksidecarRefused"
)

// Sink writes events.
type Sink interface {
	CreateEvent(ctx context.Context, e *corev1.Event) (exists bool, err error)
	RepeatEvent(ctx context.Context, e *corev1.Event) (gone bool, err error)
}

// Options are a recorder's.
type Options struct {
	Sink Sink
	// Instance is the replica's name.
	Instance string
	// Dropped is told of each event that is not written.
	Dropped func()
	// Now is the clock; nil means time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

const (
	queue = 256
	// remembered bounds the events that are counted up.
	remembered = 1024
	// again is how often one is.
	again = time.Minute
	// maxMessage is the API's bound.
	maxMessage = 1024
)

// Recorder takes events.
type Recorder struct {
	o    Options
	in   chan *corev1.Event
	seen map[string]*written
}

// written is an event that was.
type written struct {
	event *corev1.Event
	at    time.Time
	count int32
}

// New returns a recorder; Run writes.
func New(o Options) *Recorder {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Recorder{o: o, in: make(chan *corev1.Event, queue), seen: map[string]*written{}}
}

// Record tells an event about a pod of the namespace. What has no name that
// Kubernetes gives is dropped: whoever asks the webhook chooses it.
func (r *Recorder) Record(namespace string, pod *corev1.Pod, kind, reason, message string) {
	about := corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace, Namespace: namespace}
	controlled := false
	if c := metav1.GetControllerOf(pod); c != nil {
		about = corev1.ObjectReference{APIVersion: c.APIVersion, Kind: c.Kind, Name: c.Name, UID: c.UID, Namespace: namespace}
		controlled = true
	}
	if reason == Injected && !controlled {
		return // the pod itself says so
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(about.Name)) > 0 {
		r.o.Dropped()
		return
	}
	if len(message) > maxMessage {
		message = message[:maxMessage-3] + "..."
	}
	// Each replica counts its own event: of one for all, each would write its own count
	// over the others'.
	hash := sha256.Sum256([]byte(r.o.Instance + "\x00" + namespace + "\x00" + about.Kind + "\x00" + about.Name + "\x00" + string(about.UID) + "\x00" + reason + "\x00" + message))
	now := metav1.NewTime(r.o.Now())
	e := &corev1.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Name: "locksidecar-injector." + hex.EncodeToString(hash[:10]), Namespace: namespace},
		InvolvedObject: about, Type: kind, Reason: reason, Message: message,
		Source:              corev1.EventSource{Component: "locksidecar-injector", Host: r.o.Instance},
		ReportingController: "locksidecar.dev/injector", ReportingInstance: r.o.Instance,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
	}
	select {
	case r.in <- e:
	default:
		r.o.Dropped()
	}
}

// Run writes until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	for {
		select {
		case e := <-r.in:
			if err := r.write(ctx, e); err != nil && ctx.Err() == nil {
				r.o.Dropped()
				r.o.Logger.Warn("an event was not written", "error", err, "reason", e.Reason)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (r *Recorder) write(ctx context.Context, e *corev1.Event) error {
	key := e.Namespace + "/" + e.Name
	w := r.seen[key]
	if w == nil {
		if len(r.seen) >= remembered {
			clear(r.seen)
		}
		w = &written{event: e}
		r.seen[key] = w
	}
	w.count++
	now := r.o.Now()
	if !w.at.IsZero() && now.Sub(w.at) < again {
		return nil
	}
	first := w.at.IsZero()
	w.at, e.Count = now, w.count
	e.FirstTimestamp = w.event.FirstTimestamp
	if first {
		exists, err := r.o.Sink.CreateEvent(ctx, e)
		if err != nil || !exists {
			return err
		}
	}
	gone, err := r.o.Sink.RepeatEvent(ctx, e)
	if gone && err == nil {
		_, err = r.o.Sink.CreateEvent(ctx, e)
	}
	return err
}
