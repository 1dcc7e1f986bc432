// Package configuration reads the injector's file, injector.yaml.
//
// It guarantees that a file is understood as a whole or refused: an unknown key,
// a key twice, a value that is not allowed, a daemon's configuration that the
// daemon's own reader refuses, a backend URL whose scheme or parameters no driver
// knows or that has a password in it. A file that is wrong never replaces one that
// was right ([Source]).
//
// It does not guarantee that a store can be reached, that the values in its URL are
// right, nor that files of Secrets are there: those are in other namespaces, and
// not read here, and so is a URL in a url_file.
package configuration
