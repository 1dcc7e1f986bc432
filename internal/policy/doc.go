// Package policy decides which peer may do what to which locks.
//
// It guarantees that what no rule grants is denied, that the first rule which
// is about a peer and a lock decides alone, and that a section with a key, a
// verb, a name or a pattern that is not understood is refused with its line,
// instead of being half obeyed. Ids by which the kernel says "somebody whom I
// cannot name here" identify nobody.
//
// It does not guarantee that a lease ends when the policy changes: renewing,
// releasing and adopting need the lease's secret and nothing else. Neither does
// it hide a lock's state from who may acquire it: a refused acquire names the
// holder.
//
// Use [Load] for a file of its own, or decode a [Section] as a part of another
// YAML document and [Section.Compile] it.
package policy
