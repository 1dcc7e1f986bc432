package redis

import (
	"crypto/sha1" //nolint:gosec // the name that EVALSHA gives to a script
	_ "embed"
	"encoding/hex"
)

//go:embed lua/ends.lua
var endsLua string

//go:embed lua/free.lua
var freeLua string

//go:embed lua/last.lua
var lastLua string

//go:embed lua/record.lua
var recordLua string

//go:embed lua/acquire.lua
var acquireLua string

//go:embed lua/prolong.lua
var prolongLua string

//go:embed lua/release.lua
var releaseLua string

//go:embed lua/leave.lua
var leaveLua string

//go:embed lua/evict.lua
var evictLua string

//go:embed lua/inspect.lua
var inspectLua string

// script is a Lua script and its SHA-1.
type script struct{ text, sha string }

// The scripts. What a script may drop, and its common case, stand before the
// record's text.
var (
	acquireScript = newScript(true, true, freeLua, acquireLua)
	prolongScript = newScript(false, true, "", prolongLua)
	releaseScript = newScript(false, true, lastLua, releaseLua)
	leaveScript   = newScript(false, true, "", leaveLua)
	evictScript   = newScript(true, true, "", evictLua)
	inspectScript = newScript(false, false, "", inspectLua)
)

func newScript(evicts, prunes bool, common, body string) *script {
	literal := map[bool]string{true: "true", false: "false"}
	text := endsLua + common + "local evicts, prunes = " + literal[evicts] + ", " + literal[prunes] + "\n" + recordLua + body
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see the import
	return &script{text, hex.EncodeToString(sum[:])}
}
