package driver

import "time"

// Describer is the optional ability to say which servers the store is made of.
// The fallback is to know nothing of them.
type Describer interface {
	// Describe tells what is known of the servers without asking them, in no
	// order. It is for operators: an application is never shown an address.
	Describe() []Server
}

// Server is what a driver knows of one server of its store. Texts are empty while
// they are not known.
type Server struct {
	// Address is host:port or a path.
	Address string `json:"address"`
	// Role is the server's in its store, such as primary.
	Role string `json:"role"`
	// Version names the program and its version.
	Version string `json:"version"`
	// RunID is another after each start of the server.
	RunID string `json:"run_id"`
	// Persistence is what it keeps on disk.
	Persistence string `json:"persistence"`
	// EvictionPolicy is what it does when its memory is full.
	EvictionPolicy string `json:"eviction_policy"`
	// Warnings are what an operator should know of it, in words without addresses.
	Warnings []string `json:"warnings"`
	// Refused is why the driver does not use it although it answers, in words
	// without addresses; empty if it does.
	Refused string `json:"refused"`
	// CheckedAt is when it last said all this.
	CheckedAt time.Time `json:"checked_at"`
}
