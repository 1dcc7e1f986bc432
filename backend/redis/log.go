package redis

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// LogClient passes what the client library itself has to say to l, at the level
// debug: what matters of it the calls' errors say, too. It is for the whole
// process; without it the library writes to standard error.
func LogClient(l *slog.Logger) { redis.SetLogger(clientLog{driver.Logger(l)}) }

type clientLog struct{ l *slog.Logger }

func (c clientLog) Printf(ctx context.Context, format string, args ...any) {
	c.l.DebugContext(ctx, fmt.Sprintf(format, args...), driver.LogSource, "go-redis")
}
