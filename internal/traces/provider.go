package traces

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// exportTimeout bounds one try to send spans.
	exportTimeout = 5 * time.Second
	// closeTimeout bounds the sending of the last spans.
	closeTimeout = 2 * time.Second
	// queueSize bounds the spans that wait to be sent; further ones are dropped.
	queueSize = 8192
	// scope names this module among those that make spans.
	scope = "github.com/locksidecar/locksidecar"
)

// Options configure a Tracer.
type Options struct {
	// Endpoint is the collector's: http://host:4317, or https:// by TLS with the
	// system's authorities.
	Endpoint string
	// OneIn: of the calls whose application does not say whether they are to be
	// traced, one in so many is; 0 means each.
	OneIn int
	// Version is the build's.
	Version string
	// Logger is told when spans cannot be sent; nil discards that.
	Logger *slog.Logger
}

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider   *sdk.TracerProvider
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	stats      stats.Handler
}

// ValidEndpoint says whether a collector's URL is one.
func ValidEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" {
		return errors.New("want the collector's URL, http://host:4317 or https://host:4317, with nothing after the port")
	}
	return nil
}

// New returns a Tracer that sends to a collector, which it does not wait for.
func New(ctx context.Context, o Options) (*Tracer, error) {
	if err := ValidEndpoint(o.Endpoint); err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(o.Endpoint), otlptracegrpc.WithTimeout(exportTimeout))
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	logger := driver.Logger(o.Logger)
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		logger.Warn("spans of traces are not sent", driver.LogError, err)
	}))
	return over(sdk.NewBatchSpanProcessor(exporter, sdk.WithMaxQueueSize(queueSize), sdk.WithExportTimeout(exportTimeout)), o), nil
}

// over returns a Tracer whose spans go to p.
func over(p sdk.SpanProcessor, o Options) *Tracer {
	share := 1.0
	if o.OneIn > 1 {
		share = 1 / float64(o.OneIn)
	}
	t := &Tracer{
		provider: sdk.NewTracerProvider(
			sdk.WithSpanProcessor(p),
			sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(share))),
			sdk.WithResource(resource.NewSchemaless(
				attribute.String("service.name", "locksidecar"), attribute.String("service.version", o.Version),
			)),
		),
		propagator: propagation.TraceContext{},
	}
	t.tracer = t.provider.Tracer(scope)
	t.stats = otelgrpc.NewServerHandler(otelgrpc.WithTracerProvider(t.provider), otelgrpc.WithPropagators(t.propagator))
	return t
}

// Stats is told of gRPC calls, and makes a span of each.
func (t *Tracer) Stats() stats.Handler { return t.stats }

// Begin makes a span of a call over HTTP, named by its gRPC method. The header is
// the request's, which may have the trace of its caller (traceparent).
func (t *Tracer) Begin(ctx context.Context, method string, header http.Header) (context.Context, func()) {
	ctx = t.propagator.Extract(ctx, propagation.HeaderCarrier(header))
	ctx, span := t.tracer.Start(ctx, method, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(attribute.String("network.protocol.name", "http")))
	return ctx, func() { span.End() }
}

// Close sends what is left, until ctx ends but not for longer than a stop should
// take for it, and then drops it.
func (t *Tracer) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
