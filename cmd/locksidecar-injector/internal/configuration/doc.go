// Package configuration reads the injector's file, injector.yaml.
//
// It guarantees that a file is understood as a whole or refused: an unknown key,
// a key twice, a value that is not allowed, a daemon's configuration that the
// daemon would not start with. So no pod gets what its sidecar refuses. A file
// that is wrong never replaces one that was right ([Source]).
//
// It does not guarantee that a store can be reached, nor that files of Secrets are
// there: those are in other namespaces, and not read here.
package configuration
