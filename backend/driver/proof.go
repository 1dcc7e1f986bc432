package driver

// Proof is what a LeaseRef is compared with, of a lease that stands.
type Proof struct {
	Token  int64
	Key    Key
	Attach int64
}

// Proven returns the one of a lock's unexpired leases that ref proves, by the order
// of comparisons that [LeaseRef] describes; else its zero value and the error. of
// says what proves a lease. ended is asked when no lease has the token or the key:
// it returns how the lease of both ended, as far as that is remembered, else
// CauseUnknown. Whether the lease is revoked is the caller's to ask.
func Proven[L any](ref LeaseRef, leases []L, of func(L) Proof, ended func() Cause) (L, error) {
	var none L
	stale := int64(0)
	for _, l := range leases {
		switch p := of(l); {
		case p.Token != ref.Token:
			if stale == 0 && p.Key == ref.Key {
				stale = p.Token
			}
		case p.Key != ref.Key:
			return none, ErrNotOwner
		case ref.Attach != 0 && ref.Attach != p.Attach:
			return none, Lost(CauseReattached)
		default:
			return l, nil
		}
	}
	if stale != 0 {
		return none, &TokenError{Expected: stale, Actual: ref.Token}
	}
	return none, Lost(ended())
}
