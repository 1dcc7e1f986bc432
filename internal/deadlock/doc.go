// Package deadlock finds owners that wait for each other, over all stores that
// this process knows, and says who is to give way.
//
// It guarantees no false alarm: all waits of a deadlock that it reports stood at
// the same moment. It does not guarantee to see what is in a store that it does
// not know or cannot reach, nor that owners who use one owner id for several
// threads really are stuck: an owner is taken for one thread of control, which
// needs everything that it waits for.
//
// # The graph
//
// Its nodes are owners; the same owner id is the same owner in every store. A
// waiter waits for each holder whose mode conflicts with its own, and, since
// queues have no overtaking, for the waiters before it whose modes do. An owner
// that waits for any one in a cycle cannot go on: all of what it waits for is
// needed. A further hold on an owner's own lease never waits, so there is no step
// from an owner to itself.
//
// Of the waiters before one, only the nearest conflicting ones are followed: who
// is further ahead stands before those in turn.
//
// # Why there is no false alarm
//
// The locks of several stores, and the pages of one, are read one after the
// other, so that one reading may show waits that never stood together. A cycle
// counts only if each of its steps is found in two readings, the second of which
// begins after the first has ended. A step is named by what is never used again:
// the place by its request and its ticket, which rises with each place of the
// lock, the lease by its fencing token, which rises with each grant. So a step
// that is in both readings has stood from its first reading to its second, for a
// place or a lease that ends never comes back under its name. The moment between
// the readings lies in all of these spans: at that moment the whole cycle stood.
//
// [Find] makes the two readings. A [Detector] makes them again and again while
// somebody waits.
package deadlock
