// Package conformance proves that a driver keeps the contract of package
// backend/driver. It is the suite that this project runs on its own drivers,
// and a public one: a third party runs it on theirs with nothing else.
//
// A [Case] is a guarantee, by name; a run ends with a [Report] that says of each
// case whether it passed, failed or was skipped, and why. Nothing is left out
// silently: a case is skipped only for a capability that the driver does not
// declare or a power that the [Harness] does not have.
//
// What a harness can do beside opening drivers (wipe the store, freeze it, step
// its clock, have idle records collected) is optional: each power that it has
// adds cases. Beside the cases themselves, every case ends with a look at the
// state of the locks that it used and at the goroutines that it started.
//
// Random histories are compared with a model of the contract. A failure prints
// their seed; the same seed in [Options] repeats them.
//
// Passing proves that no case found a violation; it does not prove that there
// is none.
//
//	func TestMyDriver(t *testing.T) {
//		conformance.Test(t, conformance.Harness{Open: openMyDriver}, conformance.Options{})
//	}
package conformance
