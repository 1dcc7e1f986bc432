// Package config is the daemon's configuration: one YAML file, under the
// environment, under the flags.
//
// It guarantees that a file is understood as a whole or refused with the line
// of what is not: an unknown key, a key twice, a value of another kind, a route
// to a backend that there is not. What a message quotes is never a backend's
// URL, which may have a password in it.
//
// It does not guarantee that a backend can be reached, nor that a URL is right:
// that is known to whoever opens it.
//
// [Load] reads a file, [File.Compile] makes of it, and of what was said
// elsewhere, the [Config] that is in force. [Schema] is the JSON Schema of the
// file, made of the same Go types by which it is read.
package config
