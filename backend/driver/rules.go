package driver

// MaxPriority is the highest priority of a waiter; the lowest is 0.
const MaxPriority = 9

// FirstPriority is what an operator gives to the place that must go before all
// others, by EditPlace alone: its head start is longer than any queue.
const FirstPriority = 1 << 20

// PriorityStep is the head start, in tickets, of each priority level. A waiter
// of priority p is overtaken by fewer than (MaxPriority-p)*PriorityStep later
// arrivals. It is one value for a whole fleet, because sidecars order one queue
// together.
const PriorityStep = 8

// OrderKey is a waiter's place in the queue: the lower key is granted first,
// and at equal keys the lower ticket. Tickets are a sequence per lock, not a
// clock: a head start in time would overtake a number that grows with the load.
func OrderKey(ticket int64, priority int) int64 {
	return ticket - int64(priority)*PriorityStep
}

// MaxClockToken is the lowest clock reading, in µs since 1970, that is not
// believed: 2^52 µs is in the year 2112. A higher one never becomes a token, so
// that one broken clock cannot use up the range below 2^53 that JavaScript
// represents exactly.
const MaxClockToken = int64(1) << 52

// NextToken is the fencing token of a new grant: the greatest of the last
// token plus one, the request's floor and the clock in µs since 1970. A clock
// reading of MaxClockToken or more is left out.
func NextToken(last, floor, clockMicros int64) int64 {
	token := max(last+1, floor)
	if clockMicros < MaxClockToken {
		token = max(token, clockMicros)
	}
	return token
}

// RememberedEnds is how many ends of holds a record keeps at least, the latest
// ones: a repeated release or a late acquire is recognised among them. Of a request
// that ended twice (it was left, and repeated under another key), the latest end is
// enough.
const RememberedEnds = 16

// Format is the major version of the store records of this contract. A driver
// stamps its records with its own format and refuses a newer one (ErrFormat).
const Format = 1
