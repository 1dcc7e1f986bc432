// Package budget holds what a sidecar may cost every pod that has one: budget.tsv
// says how large the binaries of the image and the memory of an idle sidecar may
// be, and the package's tests measure them. Whoever needs more says so there, in
// the commit that needs it.
package budget
