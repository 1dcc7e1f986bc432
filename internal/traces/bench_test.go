package traces

import (
	"context"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// instant is a driver that answers at once.
type instant struct{ driver.Driver }

func (instant) Inspect(context.Context, string) (*driver.Lock, error) { return &driver.Lock{}, nil }

// BenchmarkCall is what one call to the store costs more: with traces on, of a call
// that nobody traces, and of one that is traced.
func BenchmarkCall(b *testing.B) {
	t := over(sdk.NewBatchSpanProcessor(tracetest.NewNoopExporter()), Options{})
	b.Cleanup(func() { _ = t.Close(context.Background()) })
	d := t.Driver("main", instant{})
	traced, end := t.Begin(context.Background(), "call", nil)
	defer end()
	for name, ctx := range map[string]context.Context{"untraced": context.Background(), "traced": traced} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = d.Inspect(ctx, "orders/42")
			}
		})
	}
}
