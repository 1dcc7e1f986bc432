package driver

import (
	"context"
	"time"
)

// QuarantineError is an ErrQuarantined that says for how long.
type QuarantineError struct {
	// Reason says why nothing is granted and what is to be done. It is for
	// operators.
	Reason string
	// Remaining is how long it lasts.
	Remaining time.Duration
}

func (e *QuarantineError) Error() string { return ErrQuarantined.Error() + ": " + e.Reason }

// Is makes a QuarantineError an ErrQuarantined.
func (e *QuarantineError) Is(target error) bool { return target == ErrQuarantined }

// Quarantiner is the optional ability to say whether the store is in
// quarantine. The fallback is to know it from the errors of acquires.
type Quarantiner interface {
	// Quarantine tells why new leases were refused last, and for how much
	// longer they are; 0 says that they are not, as far as is known. It asks
	// nothing.
	Quarantine() (reason string, remaining time.Duration)
}

// Initializer is the optional ability of a store that must be told that it is
// new. The fallback is that nothing is to be done.
type Initializer interface {
	// Init tells a new store that nobody ever held a lease of it, so that its
	// first grants need no quarantine. The caller knows this to be true. It
	// does nothing, and says so by false, if the store was told before or is in
	// use. A store that is in quarantine stays in it: a QuarantineError.
	Init(ctx context.Context) (done bool, err error)
}
